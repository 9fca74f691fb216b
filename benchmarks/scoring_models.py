"""Real pools for the benchmarks of scoring, each with a small model that has learned to answer.

Loghub and gsm8k, where their files are (``data/README.md`` beside the project); the models are
trained once, from nothing, on a part of the training file, and kept in the temporary folder.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.demo_inputs import CACHE, QUICK_RECIPE
from edco_core.config import DataSection, ModelSection
from edco_core.data import load_pool
from edco_core.demo_model import Recipe, build_base_model
from edco_core.loading import ModelHost
from edco_core.records import Pool
from flows.display import progress

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True, slots=True)
class Task:
    """A pool and what is trained on it."""

    name: str
    recipe: Recipe
    num_training_rows: int
    """The model sees so many rows of the file; the pool that is scored is drawn from all."""
    max_new_tokens: int = 256


TASKS = (
    Task(
        "loghub", Recipe(vocab_size=2048, hidden_size=128, num_steps=300, num_merges=(None,)), 7000
    ),
    Task(
        "gsm8k",
        Recipe(vocab_size=4096, hidden_size=128, num_steps=250, batch_size=16, num_merges=(None,)),
        6000,
    ),
)


def load_task(task: Task, num_samples: int, *, quick: bool) -> tuple[Pool, ModelHost] | None:
    """A random part of the pool and the host of its model; None where the data is not at hand."""
    path = DATA / f"{task.name}_train.jsonl"
    if not path.exists():
        print(f"{task.name} is left out: {path} is not there", file=sys.stderr)
        return None
    whole = load_pool(str(path), DataSection(train=str(path)), split="train")
    generator = np.random.default_rng(0)
    recipe = QUICK_RECIPE if quick else task.recipe
    rows = whole.table.select(["prompt", "completion"]).take(
        generator.permutation(len(whole))[: task.num_training_rows]
    )
    folder = CACHE / f"{task.name}{'-quick' if quick else ''}"
    label = f"{task.name}: small model (once)"
    with patch("edco_core.demo_model.RECIPE", recipe), progress(label) as on_progress:
        build_base_model(folder, corpus=rows.to_pylist(), on_progress=on_progress)
    host = ModelHost(ModelSection(name_or_path=str(folder)), seed=0)
    host.load_base()
    chosen = np.sort(generator.permutation(len(whole))[:num_samples])
    return dataclasses.replace(whole, table=whole.table.take(chosen)), host
