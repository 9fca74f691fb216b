"""The vLLM engine: what is refused without it, the canary, and, where there is one, the scores.

``EDCO_VLLM_PYTHON`` names the Python of an environment that has vLLM; CPU builds of it do.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from edco_core.config import parse_config
from edco_core.errors import ConfigError, ModelError
from edco_core.scoring.vllm_engine import check_canaries
from tests.command_line import Edco

PYTHON = os.environ.get("EDCO_VLLM_PYTHON")
needs_vllm = pytest.mark.skipif(PYTHON is None, reason="EDCO_VLLM_PYTHON names no Python with vLLM")

OURS = np.array([1.0, 2.0, 0.5])


def without_batches(tiny_config: dict[str, Any]) -> dict[str, Any]:
    """The scoring section for an engine that makes its own."""
    return {k: v for k, v in tiny_config["scoring"].items() if k != "max_batch_tokens"}


def test_without_vllm_the_error_says_what_to_install(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    if importlib.util.find_spec("vllm") is not None:
        pytest.skip("this Python has vLLM")
    edco = new_edco()
    values = {**tiny_config, "scoring": {**without_batches(tiny_config), "engine": "vllm"}}
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(values))

    for words in (("validate", "edco.yaml"), ("score", "edco.yaml", "-o", "scores.parquet")):
        said = edco(*words, expect=2).stderr
        assert "scoring.engine: vllm is not installed for" in said
        assert "pip install vllm" in said
        assert "scoring.engine_python: vllm-env/bin/python" in said


def test_a_python_that_is_not_there_is_named(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any]
) -> None:
    edco = new_edco()
    scoring = {
        **without_batches(tiny_config), "engine": "vllm", "engine_python": "nowhere/bin/python",
    }  # fmt: skip
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump({**tiny_config, "scoring": scoring}))

    said = edco("validate", "edco.yaml", expect=2).stderr

    assert f"there is no program '{edco.folder}/nowhere/bin/python'" in said


@pytest.mark.parametrize(
    ("scoring", "model", "problem"),
    [
        ({"engine_args": {"seed": 1}}, {}, "would be ignored without engine: vllm"),
        ({"engine_python": "python3"}, {}, "would be ignored without engine: vllm"),
        (
            {"engine": "vllm", "engine_args": {"max_lora_rank": 8}},
            {},
            "engine_args.max_lora_rank is decided by model.peft.r",
        ),
        ({"engine": "vllm"}, {"peft": {"use_dora": True}}, "model.peft.use_dora"),
        ({"engine": "vllm"}, {"peft": {"bias": "all"}}, "model.peft.bias"),
        ({"engine": "vllm"}, {"load_in_4bit": True}, "model.load_in_4bit"),
    ],
)
def test_settings_that_do_not_go_with_an_engine_are_refused(
    scoring: dict[str, Any], model: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_config(
            {
                "model": {"name_or_path": "somewhere", **model},
                "data": {"train": "pool.jsonl"},
                "scoring": {"type": "prefix_entropy", **scoring},
            }
        )


def test_canaries_within_rounding_pass() -> None:
    check_canaries(OURS, OURS + 0.01, None, tolerance=0.02)
    check_canaries(OURS, OURS + 0.01, OURS + 0.3, tolerance=0.02)


def test_canaries_of_other_weights_are_refused() -> None:
    with pytest.raises(ModelError, match=r"3 canary prompts differ .* by 0\.1 on average"):
        check_canaries(OURS, OURS + 0.1, None, tolerance=0.02)


def test_canaries_of_the_weights_before_are_refused_however_small_the_step_was() -> None:
    with pytest.raises(ModelError, match="are those of the weights before"):
        check_canaries(OURS, OURS + 0.009, OURS + 0.01, tolerance=0.02)


def test_weights_that_did_not_move_cannot_be_told_from_those_before() -> None:
    check_canaries(OURS, OURS + 2e-4, OURS + 2e-4, tolerance=0.02)


@pytest.fixture(scope="module")
def wide_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the tiny model, with heads of a size that vLLM has kernels for."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("models") / "wide"
    config = AutoConfig.from_pretrained(tiny_model)
    config.head_dim = 64
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen3ForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.fixture
def scored(
    new_edco: Callable[[], Edco], tiny_config: dict[str, Any], wide_model: Path
) -> Callable[..., Any]:
    """Scores of the pool by an engine and further settings."""
    edco = new_edco()

    def score(engine: str, **settings: Any) -> Any:
        scoring = {**without_batches(tiny_config), **settings}
        if "max_new_tokens" in scoring:
            del scoring["prefix_tokens"]
        if engine == "vllm":
            scoring |= {
                "engine": "vllm", "engine_python": PYTHON, "engine_args": {"enforce_eager": True},
            }  # fmt: skip
        values = {**tiny_config, "scoring": scoring}
        values["model"] = {**tiny_config["model"], "name_or_path": str(wide_model)}
        (edco.folder / "edco.yaml").write_text(yaml.safe_dump(values))
        edco("score", "edco.yaml", "-o", "scores.parquet", "--overwrite", "--keep-token-entropies")
        return pq.read_table(edco.folder / "scores.parquet").to_pandas()

    return score


@needs_vllm
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"vocabulary": "top_k", "k": 5, "unit": "bits"},
        {"type": "full_entropy", "max_new_tokens": 24},
    ],
    ids=["prefix", "top_k", "full"],
)
def test_both_engines_give_the_same_scores(
    scored: Callable[..., Any], settings: dict[str, Any]
) -> None:
    ours, theirs = scored("transformers", **settings), scored("vllm", **settings)

    assert ours["n_tokens"].tolist() == theirs["n_tokens"].tolist()
    assert np.allclose(ours["score"], theirs["score"], atol=1e-4)
    assert np.allclose(
        np.concatenate(ours["token_entropies"]), np.concatenate(theirs["token_entropies"]),
        atol=1e-4,
    )  # fmt: skip


@needs_vllm
def test_drawn_answers_are_the_same_each_time(scored: Callable[..., Any]) -> None:
    drawn = [scored("vllm", decoding="sample", temperature=0.9)["score"] for _ in range(2)]

    assert np.allclose(*drawn, atol=1e-4)
    assert not np.allclose(drawn[0], scored("vllm")["score"], atol=1e-4)


@needs_vllm
@pytest.mark.parametrize("peft", [{"r": 4}, None], ids=["lora", "full"])
def test_a_run_scores_with_the_weights_of_each_interval(
    new_edco: Callable[[], Edco],
    tiny_config: dict[str, Any],
    wide_model: Path,
    peft: dict[str, Any] | None,
) -> None:
    edco = new_edco()
    values = json.loads(json.dumps(tiny_config))
    values["model"] = {"name_or_path": str(wide_model), "peft": peft}
    values["training"]["args"]["learning_rate"] = 1e-3
    (edco.folder / "ours.yaml").write_text(yaml.safe_dump(values))
    values["scoring"] |= {
        "engine": "vllm", "engine_python": PYTHON, "engine_args": {"enforce_eager": True},
    }  # fmt: skip
    (edco.folder / "theirs.yaml").write_text(yaml.safe_dump(values))

    for name in ("ours", "theirs"):
        edco("run", f"{name}.yaml", "--run-id", name)

    def scores(name: str) -> list[float]:
        sql = "SELECT score FROM sample_history WHERE run_id = :run ORDER BY interval, sample_id"
        printed = edco("query", sql, "-p", f"run={name}", "--format", "json", "--limit", "0")
        return [row["score"] for row in json.loads(printed.stdout)]

    assert np.allclose(scores("ours"), scores("theirs"), atol=1e-3)
