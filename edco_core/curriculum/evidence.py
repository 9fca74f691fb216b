"""What a strategy may know: all of it from the ledger, so that any selection can be made again.

Shapes: P = samples of the pool; arrays are by ordinal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edco_core.curriculum.text_statistics import STATISTICS, num_different_words, statistics
from edco_core.errors import InputError

if TYPE_CHECKING:
    from edco_core.records import Floats, Ints, Pool, RolloutGroups

_TEXTS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class Categories:
    """The category of each sample, as a number."""

    codes: Ints
    """Shape (P,): place in ``names``, -1 where a sample has none."""
    names: tuple[str, ...]
    """In alphabetical order."""


class Samples:
    """The pool itself, read when first asked for."""

    def __init__(self, read: Callable[[Sequence[str]], pa.Table]) -> None:
        """``read`` gives columns of the view ``samples``, one row per sample in ordinal order."""
        self._read = read
        self._part: tuple[Ints, Samples] | None = None

    def only(self, ordinals: Ints) -> Samples:
        """A part of the pool, as if it were all of it; asked for again, the same object."""
        if self._part is None or not np.array_equal(self._part[0], ordinals):
            self._part = (ordinals, Samples(lambda names: _large(self._read(names)).take(ordinals)))
        return self._part[1]

    @cached_property
    def prompt_chars(self) -> Ints:
        """Shape (P,), length of the prompt in characters."""
        return _ints(self._read(["prompt_chars"]).column(0))

    @cached_property
    def completion_chars(self) -> Ints:
        """Shape (P,), the same of the reference answer; 0 where there is none."""
        return _ints(self._read(["completion_chars"]).column(0))

    @cached_property
    def categories(self) -> Categories:
        column = self._read(["category"]).column(0)
        names = sorted(column.unique().drop_null().to_pylist())
        codes = pc.fill_null(pc.index_in(column, pa.array(names, pa.string())), -1)
        return Categories(_ints(codes), tuple(names))

    @cached_property
    def num_different_words(self) -> Floats:
        """Shape (P,), different words and signs of the reference answer.  Raises as texts."""
        parts = [num_different_words(completions) for _, completions in self.texts()]
        return np.concatenate(parts) if parts else np.empty(0)

    @cached_property
    def statistics(self) -> Floats:
        """Shape (P, 10): ``STATISTICS`` of the texts (text_statistics.py).  Raises as texts."""
        parts = [statistics(*texts) for texts in self.texts()]
        return np.concatenate(parts) if parts else np.empty((0, len(STATISTICS)))

    def texts(self) -> Iterator[tuple[list[str], list[str | None]]]:
        """Prompts and reference answers, a part of the pool after the other.

        Raises InputError where the ledger has no texts.
        """
        table = self._read(["prompt", "completion"])
        if table.column(0).null_count:
            raise InputError(
                "this strategy reads the samples' texts, and the ledger was told to keep none "
                "(store.keep_texts: false)."
            )
        # Python's texts take several times the memory of a table's.
        for part in table.to_batches(_TEXTS_AT_ONCE):
            yield part.column(0).to_pylist(), part.column(1).to_pylist()


def samples_of(pool: Pool) -> Samples:
    """The same of a pool in memory."""

    def read(names: Sequence[str]) -> pa.Table:
        table = pool.table
        found = {
            name: pc.utf8_length(table[name.removesuffix("_chars")])
            if name.endswith("_chars")
            else table[name]
            for name in names
        }
        return pa.table(found)

    return Samples(read)


class Evidence(ABC):
    """What is known when the curriculum of ``interval`` is made.

    What is there at once are attributes; the past is read when it is asked for.
    """

    interval: int
    """The one to select for, 0-based."""
    num_intervals: int
    scorer: str
    """``scoring.type``: what the scores are."""
    scores: Floats
    """Shape (P,), of this interval; finite."""
    state: dict[str, Any]
    """``Selection.state`` of the interval before; empty at the first."""
    samples: Samples

    @abstractmethod
    def scores_at(self, interval: int) -> Floats:
        """Shape (P,), the scores of an earlier interval."""

    @abstractmethod
    def selected_at(self, interval: int) -> Ints:
        """Shape (N,), the curriculum of an earlier interval in its order of training."""

    @abstractmethod
    def rollouts_at(self, interval: int) -> RolloutGroups | None:
        """What reinforcement learning sampled in an earlier interval; None: nothing."""


@dataclass
class KnownEvidence(Evidence):
    """Evidence in memory, oldest interval first: of tests and benchmarks."""

    scores: Floats
    interval: int = 0
    num_intervals: int = 8
    scorer: str = "prefix_entropy"
    state: dict[str, Any] = field(default_factory=dict)
    samples: Samples = field(default_factory=lambda: Samples(_no_samples))
    earlier_scores: Sequence[Floats] = ()
    earlier_selections: Sequence[Ints] = ()
    earlier_rollouts: Sequence[RolloutGroups | None] = ()

    def scores_at(self, interval: int) -> Floats:
        return [*self.earlier_scores, self.scores][interval]

    def selected_at(self, interval: int) -> Ints:
        return self.earlier_selections[interval]

    def rollouts_at(self, interval: int) -> RolloutGroups | None:
        return self.earlier_rollouts[interval]


def _large(table: pa.Table) -> pa.Table:
    """The same with texts of any size together: taking rows makes one array of a column."""
    large = [
        field.with_type(pa.large_string()) if field.type == pa.string() else field
        for field in table.schema
    ]
    return table.cast(pa.schema(large))


def _no_samples(names: Sequence[str]) -> pa.Table:
    raise LookupError(f"no samples were given, and {', '.join(names)} was asked for")


def _ints(column: pa.ChunkedArray) -> Ints:
    return pc.fill_null(column, 0).to_numpy().astype(np.int64)  # type: ignore[no-any-return]
