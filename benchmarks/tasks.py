"""Real tasks for the benchmarks, and small models that were trained on them, from nothing.

Loghub's task is to name the template of a log line, gsm8k's to work out the answer of a question,
or, easy enough for models of this size, to find the calculation in a line of a worked answer.
Models are trained once and kept in the temporary folder.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.demo_inputs import CACHE, QUICK_RECIPE
from benchmarks.measuring import NoDataError
from edco_core.config import DataSection, ModelSection
from edco_core.data import load_pool
from edco_core.demo_model import RECIPE, Recipe, build_base_model
from edco_core.loading import ModelHost
from edco_core.records import Pool
from flows.display import progress

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """Rows with ``prompt``, ``completion`` and perhaps ``category``, and the model's recipe."""

    name: str
    read: Callable[[str], list[Row]]
    """``train`` or ``eval`` to all of its rows, in the order of their file."""
    recipe: Recipe
    known: frozenset[str] | None
    """Categories the model is trained on; None: a random part of the rows."""
    max_chars: int
    """Of a prompt: a few are very long in a small vocabulary, and would be all that is timed."""
    max_new_tokens: int
    decoding: Mapping[str, Any] = field(default_factory=dict)
    """How answers are decoded, prefixes and whole ones alike."""

    def rows(self, split: str) -> list[Row]:
        """All of ``train`` or ``eval``; raises NoDataError."""
        try:
            return _read(self.read, split)
        except FileNotFoundError as error:
            raise NoDataError(f"{error.filename} is not there") from error

    def draw(self, split: str, rng: np.random.Generator) -> list[Row]:
        """All rows with short prompts, in random order."""
        short = [row for row in self.rows(split) if len(row["prompt"]) <= self.max_chars]
        return [short[i] for i in rng.permutation(len(short))]

    def model(self, *, quick: bool, recipe: Recipe | None = None) -> Path:
        """The model, or one of the same task by another recipe: minutes the first time."""
        recipe = QUICK_RECIPE if quick else recipe or self.recipe
        rows = self.rows("train")
        if self.known is None:
            order = np.random.default_rng(0).permutation(len(rows))
            corpus = [rows[i] for i in order[:_NUM_RANDOM_ROWS]]
        else:
            corpus = [row for row in rows if row["category"] in self.known]
        with (
            patch("edco_core.demo_model.RECIPE", recipe),
            progress(f"{self.name}: small model (once)") as on_progress,
        ):
            folder = CACHE / f"{self.name}-{recipe.hidden_size}"
            return build_base_model(folder, corpus=corpus, on_progress=on_progress)

    def load(self, num_samples: int, *, quick: bool) -> tuple[Pool, ModelHost]:
        """A random part of ``train``, and the host of the model."""
        rows = self.draw("train", np.random.default_rng(0))[:num_samples]
        folder = self.model(quick=quick)
        with tempfile.TemporaryDirectory(prefix="edco-bench-") as name:
            path = Path(name) / "train.jsonl"
            write_rows(path, rows)
            pool = load_pool(str(path), DataSection(train=str(path)), split="train")
        host = ModelHost(ModelSection(name_or_path=str(folder)), seed=0)
        host.load_base()
        return pool, host


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """A line of JSON each."""
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")


_NUM_RANDOM_ROWS = 6000


@cache
def _read(read: Callable[[str], list[Row]], split: str) -> list[Row]:
    return read(split)


def _file(name: str, split: str) -> list[Row]:
    text = (DATA / f"{name}_{split}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]  # strings hold U+2028 as well


def _templates(split: str) -> list[Row]:
    """A raw log line to its template; the category is its system."""
    return _file("loghub", split)


def _answers(split: str) -> list[Row]:
    """A question to its worked answer."""
    return _file("gsm8k", split)


_MAX_LINE = 80
_CALCULATION = re.compile(r"<<([^<>]*)=([^<>]*)>>")
_OPERATOR = re.compile(r"(?<=[\d).])[-+*/]")
_OPERATIONS = {"+": "sum", "-": "difference", "*": "product", "/": "quotient"}


def _calculations(split: str) -> list[Row]:
    """A short line of a worked answer, without its annotation, to the calculation annotated there.

    ``Natalia sold 48/2 = 24 clips in May.`` to ``48/2=24``.  The category is the first operator's.
    """
    rows: dict[str, Row] = {}
    for worked in _answers(split):
        for line in worked["completion"].split("\n"):
            found = _CALCULATION.findall(line)
            text = _CALCULATION.sub("", line)
            if len(found) != 1 or len(text) > _MAX_LINE:
                continue
            ((expression, value),) = found
            if first := _OPERATOR.search(expression):
                rows[text] = {
                    "prompt": f"{text}\n",
                    "completion": f"{expression}={value}",
                    "category": _OPERATIONS[first[0]],
                }
    return list(rows.values())


LOGHUB = Task(
    "loghub",
    _templates,
    RECIPE,
    frozenset(
        {"Spark", "Hadoop", "HDFS", "Zookeeper", "OpenStack", "Windows", "Apache", "HPC"}
    ),  # as in ``examples/loghub.yaml``
    max_chars=160,
    max_new_tokens=64,
)  # fmt: skip
LOGHUB_ALL = replace(LOGHUB, name="loghub-all", known=None)
"""The same with a model that has seen all systems, and so answers lines of all."""
CALCULATIONS = Task(
    "gsm8k-lines",
    _calculations,
    # Bytes for tokens: digits have to be copied one by one.
    Recipe(vocab_size=258, num_steps=1200, num_merges=(None,)),
    frozenset({"sum", "difference"}),
    max_chars=_MAX_LINE + 1,
    max_new_tokens=24,
)
GSM8K = Task(
    "gsm8k",
    _answers,
    # Too briefly to be right often.
    Recipe(vocab_size=4096, hidden_size=128, num_steps=400, batch_size=16, num_merges=(None,)),
    None,
    max_chars=1000,
    max_new_tokens=256,
    # Greedily so weak a model repeats itself to the cut; drawn, its answers come to an end.
    decoding={"decoding": "sample", "temperature": 0.7},
)
