"""``edco demo``: the whole loop, offline, on data and a base model it makes itself.

``python -m flows.demo DIR`` only makes them, with a configuration to be deployed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from edco_core.checkpoints import write_atomically
from edco_core.config import Config, parse_config
from edco_core.demo_data import write_demo_data
from edco_core.errors import InputError
from flows.display import progress, say
from flows.launch import start_run
from flows.prepare import check_writable
from storage import address_of


def run_demo(folder: Path, *, seed: int) -> None:
    """Make data and base model where they are missing, then carry out a real run on them."""
    check_writable(folder, "--dir")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--dir {folder}: it is a file. Give a folder.")
    config = demo_config(folder, seed=seed)
    start_run(config, address_of(folder / "edco.duckdb"), None, offline=True)


def write_demo_config(folder: Path, *, seed: int) -> Path:
    """Write the demo's configuration as a file of its own, to be deployed."""
    config = demo_config(folder.resolve(), seed=seed)
    path = folder / "demo.yaml"
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_atomically(path, text)
    return path


def demo_config(folder: Path, *, seed: int) -> Config:
    """The demo's configuration, its data and base model made in ``folder``."""
    data, model = folder / f"data-{seed}", folder / f"base-model-{seed}"
    data.mkdir(parents=True, exist_ok=True)
    write_demo_data(data, seed=seed)  # the same seed gives the same files
    say(f"data: log lines of six vendors in {data}")
    # torch and transformers take seconds to import, and are not needed to write data.
    from edco_core.demo_model import build_base_model

    with progress("base model (once)") as on_progress:
        build_base_model(model, seed=seed, on_progress=on_progress)
    say(f"base model: a small Qwen3 that knows half of the vendors, in {model}")
    return parse_config(
        {
            "run": {"name": "demo", "seed": seed, "output_dir": str(folder / "runs")},
            "model": {"name_or_path": str(model), "peft": {"r": 16, "lora_alpha": 32}},
            "data": {"train": str(data / "pool.jsonl"), "eval": str(data / "eval.jsonl")},
            # The base model has never seen an instruction: it continues the prompt as it is.
            "scoring": {"type": "prefix_entropy", "prefix_tokens": 8, "quick_answer": False},
            "curriculum": {"type": "edco", "intervals": 4, "top_n": 0.25},
            "training": {
                "type": "sft",
                "args": {
                    "learning_rate": 5e-3,
                    "per_device_train_batch_size": 16,
                    "lr_scheduler_type": "linear",
                    "save_steps": 20,
                },
            },
            "evaluation": {"metric": "exact_match", "max_new_tokens": 48},
        }
    )


if __name__ == "__main__":
    write_demo_config(Path(sys.argv[1]), seed=0)
