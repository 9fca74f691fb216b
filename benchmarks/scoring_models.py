"""Real pools for the benchmarks of scoring, each with a small model that has learned to answer.

Loghub and gsm8k, where their files are at hand; the models are trained once, from nothing, and kept
in the temporary folder.  Loghub's has seen half of the systems (as in ``examples/loghub.yaml``),
gsm8k's most of the file, too briefly to be right often.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow.compute as pc

from benchmarks.demo_inputs import CACHE, QUICK_RECIPE
from edco_core.config import DataSection, ModelSection
from edco_core.data import load_pool
from edco_core.demo_model import RECIPE, Recipe, build_base_model
from edco_core.loading import ModelHost
from edco_core.records import Pool
from flows.display import progress

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

MAX_CHARS = 1000
"""Of a prompt: a few lines are very long in a small vocabulary, and would be all that is timed."""


@dataclass(frozen=True, slots=True)
class Task:
    """A pool and what is trained on it."""

    name: str
    model: str
    recipe: Recipe
    known: tuple[str, ...] = ()
    """Categories the model is trained on; none: a random part of the file."""
    max_new_tokens: int = 256
    decoding: Mapping[str, Any] = field(default_factory=dict)
    """How answers are decoded, prefixes and whole ones alike."""


TASKS = (
    Task(
        "loghub",
        "loghub-half",
        RECIPE,
        ("Spark", "Hadoop", "HDFS", "Zookeeper", "OpenStack", "Windows", "Apache", "HPC"),
    ),
    Task(
        "gsm8k",
        "gsm8k",
        Recipe(vocab_size=4096, hidden_size=128, num_steps=400, batch_size=16, num_merges=(None,)),
        # Greedily so weak a model repeats itself to the cut; drawn, its answers come to an end.
        decoding={"decoding": "sample", "temperature": 0.7},
    ),
)
_NUM_RANDOM_ROWS = 6000


def load_task(task: Task, num_samples: int, *, quick: bool) -> tuple[Pool, ModelHost] | None:
    """A random part of the pool and the host of its model; None where the data is not at hand."""
    path = DATA / f"{task.name}_train.jsonl"
    if not path.exists():
        print(f"{task.name} is left out: {path} is not there", file=sys.stderr)
        return None
    whole = load_pool(str(path), DataSection(train=str(path)), split="train")
    generator = np.random.default_rng(0)
    order = generator.permutation(len(whole))
    rows = whole.table.select(["prompt", "completion", "category"])
    if task.known:
        corpus = [row for row in rows.to_pylist() if row["category"] in task.known]
    else:
        corpus = rows.take(order[:_NUM_RANDOM_ROWS]).to_pylist()
    folder = CACHE / f"{task.model}{'-quick' if quick else ''}"
    label = f"{task.name}: small model (once)"
    recipe = QUICK_RECIPE if quick else task.recipe
    with patch("edco_core.demo_model.RECIPE", recipe), progress(label) as on_progress:
        build_base_model(folder, corpus=corpus, on_progress=on_progress)
    host = ModelHost(ModelSection(name_or_path=str(folder)), seed=0)
    host.load_base()
    short = np.flatnonzero(pc.less_equal(pc.utf8_length(whole.table["prompt"]), MAX_CHARS))
    chosen = np.sort(generator.permutation(short)[:num_samples])
    return dataclasses.replace(whole, table=whole.table.take(chosen)), host
