"""Ranks of all scores of a pool, in memory that does not grow with the pool.

Scores come in shards of any order and leave by ordinal, each with its rank: 1 = highest score, ties
by ordinal.  A pool of at most ``CHUNK_SAMPLES`` samples is ranked in memory.  A larger one goes
through temporary files three times: parted by ordinal, by score, and by ordinal again, so that at
most one part of about that size is in memory.  (A part holds all samples of one score, however many
they are.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from edco_core.errors import LedgerError
from edco_core.records import ScoreShard

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_SAMPLES = 1 << 18
_BATCH_ROWS = 1 << 16
_SPLITTER_SAMPLES = 1 << 16
_RECORD = np.dtype(
    [
        ("score", "<f8"),
        ("ordinal", "<i4"),
        ("n_tokens", "<i4"),
        ("rank", "<i4"),
        ("scored_at_interval", "<i2"),
    ]
)


@dataclass(frozen=True, slots=True)
class RankedScores:
    """The scores of a pool by ordinal, and what they come to."""

    stats: dict[str, float]
    """``n``, ``mean``, ``max``, and the quantiles ``p50`` and ``p90`` (linear interpolation)."""
    batches: Iterator[pa.RecordBatch]
    """By ordinal: that, ``score``, ``rank``, ``n_tokens`` and ``scored_at_interval``."""


@contextmanager
def ranked(
    shards: Iterable[ScoreShard],
    pool_size: int,
    interval: int,
    where: str,
    chunk: int = CHUNK_SAMPLES,
) -> Iterator[RankedScores]:
    """Rank the scores of a whole pool; the batches may be read inside the ``with`` block.

    Raises LedgerError, which begins with ``where``, when not every sample has exactly one score.
    """
    num_parts = max(1, -(-pool_size // chunk))
    with TemporaryDirectory(prefix="edco-ranking-") as folder:
        by_ordinal = _Parts(Path(folder, "by-ordinal"), num_parts)
        some_scores = []
        stride = max(1, pool_size // _SPLITTER_SAMPLES)
        n_scored = 0
        for shard in shards:
            records = np.empty(len(shard.ordinals), _RECORD)
            records["ordinal"] = shard.ordinals
            records["score"] = shard.scores
            records["n_tokens"] = shard.n_tokens
            made_at = shard.scored_at_interval
            records["scored_at_interval"] = interval if made_at is None else made_at
            by_ordinal.add(records, records["ordinal"] // chunk)
            # A copy: a view would keep the whole shard.
            some_scores.append(shard.scores[:: min(stride, max(1, len(shard.scores)))].copy())
            n_scored += len(records)
        if n_scored < pool_size:
            raise LedgerError(
                f"{where}: {n_scored} of {pool_size} samples are scored; "
                "the missing ones come first"
            )

        splitters = np.quantile(np.concatenate(some_scores), np.linspace(0, 1, num_parts + 1)[1:-1])
        by_score = _Parts(Path(folder, "by-score"), num_parts)
        for part in range(num_parts):
            records = by_ordinal.take(part)
            records = records[np.argsort(records["ordinal"], kind="stable")]
            expected = np.arange(part * chunk, min((part + 1) * chunk, pool_size))
            if not np.array_equal(records["ordinal"], expected):
                raise LedgerError(
                    f"{where}: some samples were scored twice, or are not in the pool"
                )
            # In the order of ordinals, so that a stable sort by score leaves ties by ordinal.
            by_score.add(records, np.searchsorted(splitters, records["score"], side="right"))

        ranks = _Parts(Path(folder, "ranks"), num_parts)
        quantiles = _Quantiles(pool_size)
        total, best_rank = 0.0, 1
        for part in reversed(range(num_parts)):
            records = by_score.take(part)
            records = records[np.argsort(-records["score"], kind="stable")]
            records["rank"] = np.arange(best_rank, best_rank + len(records))
            quantiles.see(records["score"], best_rank)
            total += float(records["score"].sum())
            best_rank += len(records)
            ranks.add(records, records["ordinal"] // chunk)
        stats = {"n": pool_size, "mean": total / pool_size, **quantiles.values()}
        yield RankedScores(stats, _by_ordinal(ranks, num_parts, chunk))


class _Parts:
    """Records parted by number: files, or a list in memory while there is only one part."""

    def __init__(self, folder: Path, num_parts: int) -> None:
        self._in_memory: list[NDArray[Any]] | None = [] if num_parts == 1 else None
        self._folder = folder
        if num_parts > 1:
            folder.mkdir()

    def add(self, records: NDArray[Any], parts: NDArray[Any]) -> None:
        """Append each record to its part, in the order they are in."""
        if self._in_memory is not None:
            self._in_memory.append(records)
            return
        order = np.argsort(parts, kind="stable")
        numbers, starts = np.unique(parts[order], return_index=True)
        ends = [*starts[1:], len(order)]
        for number, start, end in zip(numbers, starts, ends, strict=False):
            with (self._folder / str(number)).open("ab") as file:
                file.write(records[order[start:end]].tobytes())

    def take(self, part: int) -> NDArray[Any]:
        """All records of a part, which is empty after that."""
        if self._in_memory is not None:
            records, self._in_memory = np.concatenate(self._in_memory), []
            return records
        path = self._folder / str(part)
        if not path.exists():
            return np.empty(0, _RECORD)
        records = np.fromfile(path, _RECORD)
        path.unlink()
        return records


class _Quantiles:
    """Maximum, median and ninth decile of scores that pass by from the highest to the lowest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._wanted = {"max": 1.0, "p50": 0.5, "p90": 0.9}
        self._seen: dict[int, float] = {}

    def _place(self, share: float) -> tuple[int, int, float]:
        """Ranks of the scores above and below a quantile, and how far it is above the lower."""
        above_lowest = share * (self._size - 1)
        lower = int(above_lowest)
        upper = min(lower + 1, self._size - 1)
        return self._size - upper, self._size - lower, above_lowest - lower

    def see(self, scores: NDArray[np.float64], first_rank: int) -> None:
        for share in self._wanted.values():
            for rank in self._place(share)[:2]:
                if first_rank <= rank < first_rank + len(scores):
                    self._seen[rank] = float(scores[rank - first_rank])

    def values(self) -> dict[str, float]:
        found = {}
        for name, share in self._wanted.items():
            above, below, rest = self._place(share)
            found[name] = self._seen[below] + rest * (self._seen[above] - self._seen[below])
        return found


def _by_ordinal(ranks: _Parts, num_parts: int, chunk: int) -> Iterator[pa.RecordBatch]:
    for part in range(num_parts):
        unsorted = ranks.take(part)
        records = np.empty_like(unsorted)
        records[unsorted["ordinal"] - part * chunk] = unsorted
        del unsorted
        for start in range(0, len(records), _BATCH_ROWS):
            batch = records[start : start + _BATCH_ROWS]
            yield pa.RecordBatch.from_pydict(
                {name: np.ascontiguousarray(batch[name]) for name in _RECORD.names or ()}
            )
