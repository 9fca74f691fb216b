"""Scores: shard by shard as they come, ranked when the pool is done, and read again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, text

from edco_core.errors import LedgerError, NotFoundError
from edco_core.records import Lease, ScoreHistory, ScoreShard
from storage import tables
from storage.checks import refuse_finished, refuse_not_finite, refuse_ordinals
from storage.part import AlreadyKeptError, retried, run_row
from storage.ranking import ranked
from storage.stage_part import Facts, StagePart, bulk_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edco_core.records import Ints

_READ_SAMPLES = 1 << 16
"""Samples whose kept scores are asked for at once, where rows are short."""

_CARRIED_SAMPLES = 1 << 18
"""Samples of the pool whose earlier scores are in memory at once."""

_SCORES = """
SELECT ordinal, score, n_tokens, scored_at_interval FROM {scores}
WHERE run_key = :key AND interval = :interval
"""

# An interval has a score of every sample, so that the one before the newest is at the interval
# before the newest was made.
_HISTORY = """
SELECT
    s.ordinal, s.score, s.scored_at_interval,
    coalesce(e.score, CAST('NaN' AS DOUBLE PRECISION)) AS earlier_score,
    coalesce(e.scored_at_interval, CAST(-1 AS SMALLINT)) AS earlier_scored_at_interval
FROM {scores} s
LEFT JOIN {scores} e
    ON e.run_key = :key AND e.ordinal = s.ordinal AND e.interval = s.scored_at_interval - 1
WHERE s.run_key = :key AND s.interval = :interval
ORDER BY s.ordinal
"""


@dataclass(slots=True)
class _Scored:
    """Which samples of an interval have a score, so that none gets a second one."""

    key: tuple[str, int, int]
    is_scored: NDArray[np.bool_]
    num_rows: int = 0
    """Of ``score_shards``."""


class Scoring(StagePart):
    """Verbs about scores, written by the run's owner and read by anybody."""

    _scored: _Scored | None = None

    @retried
    def add_scores(self, lease: Lease, interval: int, shard: ScoreShard) -> None:
        """Keep the scores of some samples until the whole pool is scored.

        Raises LedgerError, and writes nothing, when a score is not finite, an ordinal is not in
        the pool, or a sample was scored before.
        """
        where = f"run {lease.run_id}, interval {interval}"
        if not len(shard.ordinals) == len(shard.scores) == len(shard.n_tokens):
            raise LedgerError(f"{where}: the arrays of a shard have different lengths")
        refuse_not_finite(where, "scores", shard.ordinals, shard.scores)
        with self._fenced(lease) as connection:
            known = self._scored_before(connection, lease, interval)
            refuse_ordinals(where, shard.ordinals, len(known.is_scored))
            if known.is_scored[shard.ordinals].any():
                raise AlreadyKeptError(f"{where}: samples of this shard are scored already")
            self._scored = None  # asked for anew when nobody tells whether this was committed
            rows = _rows(shard, known.num_rows, self._database.scores_in_a_row)
            self._database.spare_memory(connection)
            self._database.bulk_insert(
                connection,
                tables.score_shards,
                rows,
                constants={"run_key": lease.run_key, "interval": interval},
            )
        known.is_scored[shard.ordinals] = True
        known.num_rows += len(rows)
        self._scored = known

    @retried
    def scored_ordinals(self, run_id: str, interval: int) -> Ints:
        """Samples of a half-scored pool that need not be scored again, ascending."""
        with self._database.reading() as connection:
            key = run_row(connection, run_id).run_key
            parts = [shard.ordinals for shard in self._shards(connection, key, interval)]
        return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))

    @retried
    def scores_so_far(self, run_id: str, interval: int) -> ScoreShard:
        """The scores of a half-scored pool, by ordinal; empty where there are none."""
        with self._database.reading() as connection:
            key = run_row(connection, run_id).run_key
            shards = list(self._shards(connection, key, interval))
        ordinals = np.concatenate([np.empty(0, np.int64), *(s.ordinals for s in shards)])
        order = np.argsort(ordinals)
        return ScoreShard(
            ordinals=ordinals[order],
            scores=np.concatenate([np.empty(0), *(s.scores for s in shards)])[order],
            n_tokens=np.concatenate([np.empty(0, np.int64), *(s.n_tokens for s in shards)])[order],
        )

    @retried
    def finish_scoring(
        self,
        lease: Lease,
        interval: int,
        seconds: float,
        facts: Facts | None = None,
        *,
        carry_forward: bool = False,
        recall_estimate: float | None = None,
    ) -> None:
        """Rank the scores of the whole pool: 1 = highest, ties by ordinal.

        With ``carry_forward`` samples without a score at this interval keep their newest earlier
        one, with its number of tokens and the interval it was made at.  ``recall_estimate``: the
        share, from 0 to 1, of the true top N that was found, by whoever audited it; None where
        nobody did.
        Raises LedgerError when a sample of the pool has no score then.
        """
        where = f"run {lease.run_id}, interval {interval}"
        if recall_estimate is not None and not 0 <= recall_estimate <= 1:
            raise LedgerError(f"{where}: the recall is {recall_estimate}, not from 0 to 1")
        keys = {"key": lease.run_key, "interval": interval}
        with self._fenced(lease) as connection:
            self._begin(connection, lease, interval, "scoring")
            self._database.spare_memory(connection)
            is_scored = self._scored_before(connection, lease, interval).is_scored
            pool_size, n_rescored = len(is_scored), int(np.count_nonzero(is_scored))
            shards = self._shards(connection, lease.run_key, interval)
            if carry_forward and n_rescored < pool_size:
                shards = chain(shards, self._carried(connection, lease, interval, is_scored))
            with ranked(shards, pool_size, interval, where) as scores:
                self._database.bulk_insert(
                    connection,
                    tables.scores,
                    scores.batches,
                    constants=bulk_keys(lease, interval),
                )
            self._database.spare_memory(connection, None)
            connection.execute(
                text(
                    "UPDATE interval_stats SET n_scored = :n, n_rescored = :n_rescored, "
                    "recall_estimate = :recall, score_mean = :mean, "
                    "score_p50 = :p50, score_p90 = :p90, score_max = :max "
                    "WHERE run_key = :key AND interval = :interval"
                ),
                {**keys, **scores.stats, "n_rescored": n_rescored, "recall": recall_estimate},
            )
            connection.execute(
                text("DELETE FROM score_shards WHERE run_key = :key AND interval = :interval"), keys
            )
            self._database.refresh_statistics(connection, tables.scores, lease.run_key, interval)
            self._finish(connection, lease, interval, "scoring", seconds, facts)
        self._scored = None

    @retried
    def scores(self, run_id: str, interval: int) -> ScoreShard:
        """All scores of a finished scoring stage, by ordinal. Raises NotFoundError before that.

        ``scored_at_interval`` says which of them were made at that interval, and when the others.
        """
        with self._database.reading() as connection:
            key = run_row(connection, run_id).run_key
            sql = _SCORES.format(scores=self._database.part(tables.scores, key))
            found = self._database.fetch_arrays(
                connection, f"{sql} ORDER BY ordinal", _SCORE_TYPES, key=key, interval=interval
            )
        if len(found["ordinal"]) == 0:
            raise NotFoundError(f"run {run_id} has no scores at interval {interval}")
        return _as_shard(found)

    @retried
    def score_history(self, run_id: str, before_interval: int) -> ScoreHistory | None:
        """The newest score of every sample before an interval, and the one before that.

        None before the first interval.  Raises NotFoundError when the pool was not scored at the
        interval before.
        """
        if before_interval == 0:
            return None
        with self._database.reading() as connection:
            key = run_row(connection, run_id).run_key
            self._database.join_in_bulk(connection)
            found = self._database.fetch_arrays(
                connection,
                _HISTORY.format(scores=self._database.part(tables.scores, key)),
                {
                    "ordinal": "i4",
                    "score": "f8",
                    "scored_at_interval": "i2",
                    "earlier_score": "f8",
                    "earlier_scored_at_interval": "i2",
                },
                key=key,
                interval=before_interval - 1,
            )
        if len(found["ordinal"]) == 0:
            raise NotFoundError(f"run {run_id} has no scores at interval {before_interval - 1}")
        return ScoreHistory(
            scores=found["score"],
            scored_at_interval=found["scored_at_interval"].astype(np.int64),
            earlier_scores=found["earlier_score"],
            earlier_scored_at_interval=found["earlier_scored_at_interval"].astype(np.int64),
        )

    def _scored_before(self, connection: Connection, lease: Lease, interval: int) -> _Scored:
        """What this owner knows of a half-scored pool; nobody else can have added to it."""
        key = (lease.run_id, lease.token, interval)
        if self._scored is None or self._scored.key != key:
            refuse_finished(connection, lease, interval, "scoring")
            pool_size = run_row(connection, lease.run_id).pool_size
            self._scored = _Scored(key, np.zeros(pool_size, np.bool_))
            for shard in self._shards(connection, lease.run_key, interval):
                self._scored.is_scored[shard.ordinals] = True
            self._scored.num_rows = _num_rows(connection, lease.run_key, interval)
        return self._scored

    def _shards(self, connection: Connection, run_key: int, interval: int) -> Iterator[ScoreShard]:
        """The scores of a pool that is not scored to its end, in the order they came.

        A few rows are asked for at a time: databases and drivers keep a whole answer in memory.
        """
        step = max(1, _READ_SAMPLES // self._database.scores_in_a_row)
        statement = text(
            "SELECT ordinals, scores, n_tokens FROM score_shards WHERE run_key = :key "
            "AND interval = :interval AND shard >= :start AND shard < :stop ORDER BY shard"
        )
        for start in range(0, _num_rows(connection, run_key, interval), step):
            rows = connection.execute(
                statement,
                {"key": run_key, "interval": interval, "start": start, "stop": start + step},
            ).all()
            ordinals, scores, n_tokens = (b"".join(column) for column in zip(*rows, strict=True))
            yield ScoreShard(
                ordinals=np.frombuffer(ordinals, "<i4").astype(np.int64),
                scores=np.frombuffer(scores, "<f8"),
                n_tokens=np.frombuffer(n_tokens, "<i4").astype(np.int64),
            )

    def _carried(
        self,
        connection: Connection,
        lease: Lease,
        interval: int,
        is_scored: NDArray[np.bool_],
    ) -> Iterator[ScoreShard]:
        """What the interval before had for samples without a score now: the newest they have."""
        sql = _SCORES.format(scores=self._database.part(tables.scores, lease.run_key))
        for start in range(0, len(is_scored), _CARRIED_SAMPLES):
            stop = min(start + _CARRIED_SAMPLES, len(is_scored))
            if is_scored[start:stop].all():
                continue
            found = self._database.fetch_arrays(
                connection,
                f"{sql} AND ordinal >= :start AND ordinal < :stop",
                _SCORE_TYPES,
                key=lease.run_key,
                interval=interval - 1,
                start=start,
                stop=stop,
            )
            wanted = ~is_scored[found["ordinal"]]
            yield _as_shard({name: column[wanted] for name, column in found.items()})


_SCORE_TYPES = {"ordinal": "i4", "score": "f8", "n_tokens": "i4", "scored_at_interval": "i2"}


def _as_shard(columns: Mapping[str, NDArray[Any]]) -> ScoreShard:
    return ScoreShard(
        ordinals=columns["ordinal"].astype(np.int64),
        scores=columns["score"],
        n_tokens=columns["n_tokens"].astype(np.int64),
        scored_at_interval=columns["scored_at_interval"].astype(np.int64),
    )


def _num_rows(connection: Connection, run_key: int, interval: int) -> int:
    num_rows: int = connection.execute(
        text("SELECT count(*) FROM score_shards WHERE run_key = :key AND interval = :interval"),
        {"key": run_key, "interval": interval},
    ).scalar_one()
    return num_rows


def _rows(shard: ScoreShard, first: int, scores_in_a_row: int) -> pa.Table:
    """A shard as rows of ``score_shards``, numbered from ``first``."""

    def parts(values: NDArray[Any], kind: str) -> pa.Array:
        whole = np.asarray(values).astype(kind)
        starts = range(0, len(whole), scores_in_a_row)
        return pa.array([whole[at : at + scores_in_a_row].tobytes() for at in starts], pa.binary())

    ordinals = parts(shard.ordinals, "<i4")
    return pa.table(
        {
            "shard": np.arange(first, first + len(ordinals), dtype=np.int32),
            "ordinals": ordinals,
            "scores": parts(shard.scores, "<f8"),
            "n_tokens": parts(shard.n_tokens, "<i4"),
        }
    )
