"""Models that have learned each position: a sample that is too long is named before it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from test_training_sft import make_pool

from edco_core.config import parse_config
from edco_core.errors import DataError
from edco_core.evaluation import Evaluator
from edco_core.loading import ModelHost
from edco_core.positions import num_positions
from edco_core.records import Pool
from edco_core.scoring import build_scorer
from edco_core.training import build_trainer, make_plan

POSITIONS = 24
SIZES: dict[str, Any] = {"vocab_size": 400, "num_attention_heads": 2, "num_hidden_layers": 1}
OPT = transformers.OPTConfig(
    **SIZES, hidden_size=32, ffn_dim=32, word_embed_proj_dim=32, max_position_embeddings=POSITIONS
)
LLAMA = transformers.LlamaConfig(**SIZES, hidden_size=32, max_position_embeddings=POSITIONS)


def gpt2(**tokens: int) -> Any:
    return transformers.GPT2Config(n_embd=32, n_head=2, n_layer=1, n_positions=POSITIONS, **tokens)


@pytest.mark.parametrize(
    ("config", "positions"), [(gpt2(), POSITIONS), (OPT, POSITIONS), (LLAMA, None)]
)
def test_only_learned_positions_are_a_limit(config: Any, positions: int | None) -> None:
    assert num_positions(transformers.AutoModelForCausalLM.from_config(config)) == positions


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained(folder)
    tokens = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = gpt2(vocab_size=len(tokenizer), **tokens)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pool(log_files: tuple[Path, Path]) -> Pool:
    """Prompts fit into POSITIONS, with their answers they do not."""
    return make_pool(log_files[0])


def read(folder: Path, pool: Pool, run_dir: Path, **sections: dict[str, Any]) -> None:
    """Let everything that a configuration names read the whole pool."""
    config = parse_config(
        {
            "model": {"name_or_path": str(folder), "peft": None},
            "data": {"train": "pool", "eval": "pool"},
            **sections,
        }
    )
    host = ModelHost(config.model, seed=0)
    host.load_base()
    if "scoring" in sections:
        everything = np.arange(len(pool), dtype=np.int64)
        scorer = build_scorer(config.scoring, pool, host, seed=0)
        list(scorer.score(everything, everything[:0], lambda *_: None, interval=0))
    elif "evaluation" in sections:
        assert config.evaluation is not None
        Evaluator(config.evaluation, pool, host).evaluate(0, lambda *_: None)
    else:
        plan = make_plan(config.training, num_intervals=1, samples_per_interval=4)
        build_trainer(
            config.training, pool, host, plan,
            curriculum=config.curriculum, run_id="r", run_dir=run_dir, seed=0,
        ).prepare()  # fmt: skip


def grpo(max_completion_length: int) -> dict[str, Any]:
    args = {"max_completion_length": max_completion_length, "num_generations": 2}
    return {
        "type": "grpo",
        "rewards": [{"type": "exact_match"}],
        "args": {**args, "per_device_train_batch_size": 4},
    }


TOO_LONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "prefix": ("scoring", {"prefix_tokens": 30}, "score or generate fewer tokens"),
    "reference": ("scoring", {"type": "loss"}, "score or generate fewer tokens"),
    "evaluation": ("evaluation", {"max_new_tokens": 30}, "score or generate fewer tokens"),
    "sft": ("training", {"args": {"max_length": 500}}, "lower training.args.max_length"),
    "grpo": ("training", grpo(30), "lower training.args.max_completion_length"),
}


@pytest.mark.parametrize(("section", "settings", "advice"), TOO_LONG.values(), ids=TOO_LONG)
def test_a_sample_that_is_too_long_is_named_wherever_it_would_be_read(
    folder: Path, pool: Pool, tmp_path: Path, section: str, settings: dict[str, Any], advice: str
) -> None:
    expected = f"sample '.*' has .* tokens with its answer, and .* {POSITIONS} positions.*{advice}"
    with pytest.raises(DataError, match=expected):
        read(folder, pool, tmp_path, **{section: settings})


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        ("scoring", {"prefix_tokens": 2}),
        ("evaluation", {"max_new_tokens": 2}),
        ("training", {"args": {"max_length": POSITIONS}}),
        ("training", grpo(2)),
    ],
)
def test_samples_that_fit_are_read(
    folder: Path, pool: Pool, tmp_path: Path, section: str, settings: dict[str, Any]
) -> None:
    read(folder, pool, tmp_path, **{section: settings})
