"""Real but tiny things every test may use: a Qwen3 model, a byte-level BPE, a pool of log lines."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Edco

# Tiny models are slower on two threads than on one, and much slower on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA}")
    return SHARED_DATA


def log_rows(num_rows: int, seed: int) -> list[dict[str, Any]]:
    """Distinct log lines with their templates, in three categories."""
    rng = random.Random(seed)
    events = {
        "link": "Interface Gi0/{} changed state to {}",
        "bgp": "neighbor 10.0.{}.1 went {}",
        "fan": "FAN {} speed is {} rpm, check the tray",
    }
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < num_rows:
        category = rng.choice(list(events))
        line = events[category].format(rng.randrange(500), rng.choice(["up", "down", "idle"]))
        template = events[category].format("<*>", "<*>")
        rows[line] = {
            "prompt": f"Log: {line}\nTemplate:",
            "completion": f" {template}",
            "category": category,
        }
    return list(rows.values())


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 of two layers and a byte-level BPE made from the log lines; random weights."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny"
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    texts = [row["prompt"] + row["completion"] for row in log_rows(300, seed=7)]
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<eos>", "<pad>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>", pad_token="<pad>")
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=16,
                max_position_embeddings=512,
                tie_word_embeddings=True,
                initializer_range=0.3,  # wide, so that samples differ in entropy untrained
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def log_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pool of 80 samples and an evaluation set of 20, as JSONL files."""
    folder = tmp_path_factory.mktemp("data")
    rows = log_rows(100, seed=1)
    return write_jsonl(folder / "pool.jsonl", rows[:80]), write_jsonl(
        folder / "eval.jsonl", rows[80:]
    )


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests' Prefect server keeps all it has."""
    return tmp_path_factory.mktemp("prefect") / "home"


@pytest.fixture(scope="session")
def prefect_ui(prefect_home: Path) -> Iterator[str]:
    """A real Prefect server for all tests: starting one takes longer than most of them."""
    from flows.stack import prefect_server

    with prefect_server(prefect_home, prefect_home.parent) as (_, url):
        yield url


@pytest.fixture(scope="session")
def prefect_url(prefect_ui: str) -> str:
    """The API of that server."""
    return f"{prefect_ui}/api"


@pytest.fixture(scope="module")  # an open page keeps a core busy with its animations
def browser(prefect_ui: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium on the pages of the tests' Prefect server (``browser.Browser``)."""
    from browser import chromium

    with chromium(prefect_ui, tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="session")
def new_edco(prefect_url: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Edco]:
    """Makes an empty folder to run ``edco`` in, on the tests' Prefect server."""
    environment = {key: value for key, value in os.environ.items() if key != "EDCO_STORE"}
    environment |= {"PREFECT_API_URL": prefect_url, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return lambda: Edco(tmp_path_factory.mktemp("work"), environment)


@pytest.fixture(scope="session")
def tiny_config(tiny_model: Path, log_files: tuple[Path, Path]) -> dict[str, Any]:
    """Three intervals of 20 out of 80 samples: five steps each, saved every second step."""
    return {
        "run": {"name": "tiny", "seed": 3},
        "model": {"name_or_path": str(tiny_model), "peft": {"r": 4, "lora_dropout": 0.1}},
        "data": {"train": str(log_files[0]), "eval": str(log_files[1])},
        "scoring": {
            "prefix_tokens": 4,
            "quick_answer": False,
            "max_batch_tokens": 400,
            "shard_size": 16,
        },
        "curriculum": {"type": "edco", "intervals": 3, "top_n": 20},
        "training": {
            "args": {"per_device_train_batch_size": 4, "learning_rate": 5e-3, "save_steps": 2}
        },
        "evaluation": {"max_new_tokens": 8},
    }


@pytest.fixture(scope="session")
def finished(new_edco: Callable[[], Edco], tiny_config: dict[str, Any]) -> Edco:
    """A folder with a finished run named ``whole`` in its ledger, carried out without a break.

    What the run printed is in ``run.stdout`` and ``run.stderr``.
    """
    edco = new_edco()
    (edco.folder / "edco.yaml").write_text(yaml.safe_dump(tiny_config))
    printed = edco("run", "edco.yaml", "--run-id", "whole")
    (edco.folder / "run.stdout").write_text(printed.stdout, encoding="utf-8")
    (edco.folder / "run.stderr").write_text(printed.stderr, encoding="utf-8")
    return edco
