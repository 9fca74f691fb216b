"""Ranks of all scores of a pool, in memory that does not grow with the pool.

Scores come in shards of any order and leave by ordinal, each with its rank: 1 = highest score, ties
by ordinal.  A pool of at most ``IN_MEMORY_SAMPLES`` is ranked in memory.  A larger one goes through
temporary files three times: parted by ordinal, by score, and by ordinal again, so that at most one
part of about ``CHUNK_SAMPLES`` is in memory, which takes no more.  (A part holds all samples of one
score, however many they are.)
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

IN_MEMORY_SAMPLES = 1 << 20
CHUNK_SAMPLES = 1 << 18
_BATCH_ROWS = 1 << 16
_SPLITTER_SAMPLES = 1 << 16
_NOT_ONE_EACH = "some samples were scored twice, or are not in the pool"
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
    *,
    in_memory: int = IN_MEMORY_SAMPLES,
    chunk: int = CHUNK_SAMPLES,
) -> Iterator[RankedScores]:
    """Rank the scores of a whole pool; the batches may be read inside the ``with`` block.

    Raises LedgerError, which begins with ``where``, when not every sample has exactly one score.
    """
    if pool_size <= in_memory:
        yield _ranked_at_once(shards, pool_size, interval, where)
        return
    with TemporaryDirectory(prefix="edco-ranking-") as folder:
        yield _ranked_in_parts(shards, pool_size, interval, where, chunk, Path(folder))


def _ranked_at_once(
    shards: Iterable[ScoreShard], pool_size: int, interval: int, where: str
) -> RankedScores:
    columns = {name: np.zeros(pool_size, _RECORD[name]) for name in _RECORD.names or ()}
    columns["ordinal"] = np.arange(pool_size, dtype=np.int32)
    scores = columns["score"]
    scores.fill(np.nan)
    n_scored = 0
    for shard in shards:
        if len(shard.ordinals) and shard.ordinals.max() >= pool_size:
            raise LedgerError(f"{where}: {_NOT_ONE_EACH}")
        scores[shard.ordinals] = shard.scores
        columns["n_tokens"][shard.ordinals] = shard.n_tokens
        columns["scored_at_interval"][shard.ordinals] = _made_at(shard, interval)
        n_scored += len(shard.ordinals)
    _refuse_missing(where, n_scored, pool_size)
    if np.isnan(scores).any():
        raise LedgerError(f"{where}: {_NOT_ONE_EACH}")
    order = _best_first(scores)
    columns["rank"][order] = np.arange(1, pool_size + 1)
    quantiles = _Quantiles(pool_size)
    quantiles.see(scores[order], 1)
    stats = {"n": pool_size, "mean": float(scores.mean()), **quantiles.values()}
    return RankedScores(stats, _batches(columns))


def _ranked_in_parts(
    shards: Iterable[ScoreShard],
    pool_size: int,
    interval: int,
    where: str,
    chunk: int,
    folder: Path,
) -> RankedScores:
    num_parts = -(-pool_size // chunk)
    by_ordinal = _Parts(folder / "by-ordinal")
    some_scores = []
    stride = max(1, pool_size // _SPLITTER_SAMPLES)
    n_scored = 0
    for shard in shards:
        records = np.empty(len(shard.ordinals), _RECORD)
        records["ordinal"] = shard.ordinals
        records["score"] = shard.scores
        records["n_tokens"] = shard.n_tokens
        records["scored_at_interval"] = _made_at(shard, interval)
        by_ordinal.add(records, records["ordinal"] // chunk)
        # A copy: a view would keep the whole shard.
        some_scores.append(shard.scores[:: min(stride, max(1, len(shard.scores)))].copy())
        n_scored += len(records)
    _refuse_missing(where, n_scored, pool_size)

    splitters = np.quantile(np.concatenate(some_scores), np.linspace(0, 1, num_parts + 1)[1:-1])
    by_score = _Parts(folder / "by-score")
    for part in range(num_parts):
        records = by_ordinal.take(part)
        records = records[np.argsort(records["ordinal"], kind="stable")]
        expected = np.arange(part * chunk, min((part + 1) * chunk, pool_size))
        if not np.array_equal(records["ordinal"], expected):
            raise LedgerError(f"{where}: {_NOT_ONE_EACH}")
        # In the order of ordinals, so that a stable sort by score leaves ties by ordinal.
        by_score.add(records, np.searchsorted(splitters, records["score"], side="right"))

    ranks = _Parts(folder / "ranks")
    quantiles = _Quantiles(pool_size)
    total, best_rank = 0.0, 1
    for part in reversed(range(num_parts)):
        records = by_score.take(part)
        records = records[_best_first(records["score"])]
        records["rank"] = np.arange(best_rank, best_rank + len(records))
        quantiles.see(records["score"], best_rank)
        total += float(records["score"].sum())
        best_rank += len(records)
        ranks.add(records, records["ordinal"] // chunk)
    stats = {"n": pool_size, "mean": total / pool_size, **quantiles.values()}
    return RankedScores(stats, _by_ordinal(ranks, num_parts, chunk))


def _made_at(shard: ScoreShard, interval: int) -> Any:
    return interval if shard.scored_at_interval is None else shard.scored_at_interval


def _refuse_missing(where: str, n_scored: int, pool_size: int) -> None:
    if n_scored < pool_size:
        raise LedgerError(
            f"{where}: {n_scored} of {pool_size} samples are scored; the missing ones come first"
        )


def _best_first(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places from the highest score to the lowest, ties in the order they are in."""
    order = np.argsort(-scores)  # several times as fast as the stable one
    ordered = scores[order]
    if (ordered[1:] == ordered[:-1]).any():
        return np.argsort(-scores, kind="stable")
    return order


class _Parts:
    """Records parted by number, in files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def add(self, records: NDArray[Any], parts: NDArray[Any]) -> None:
        """Append each record to its part, in the order they are in."""
        order = np.argsort(parts, kind="stable")
        numbers, starts = np.unique(parts[order], return_index=True)
        ends = [*starts[1:], len(order)]
        for number, start, end in zip(numbers, starts, ends, strict=False):
            with (self._folder / str(number)).open("ab") as file:
                file.write(records[order[start:end]].tobytes())

    def take(self, part: int) -> NDArray[Any]:
        """All records of a part, which is empty after that."""
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
        yield from _batches({name: records[name] for name in _RECORD.names or ()})


def _batches(columns: dict[str, NDArray[Any]]) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(columns["ordinal"]), _BATCH_ROWS):
        yield pa.RecordBatch.from_pydict(
            {
                name: np.ascontiguousarray(column[start : start + _BATCH_ROWS])
                for name, column in columns.items()
            }
        )
