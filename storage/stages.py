"""Stages: what the four steps of an interval leave behind.

A stage is finished exactly when its row in ``stages`` exists, and that row is written last in the
one transaction that writes the stage's data.  Longer than 400 lines to keep all four stages, which
share their beginning and end, on one page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, insert, text

from edco_core.errors import LedgerError, NotFoundError
from edco_core.records import (
    BASELINE_INTERVAL,
    Checkpoint,
    Evaluation,
    Lease,
    RolloutGroups,
    ScoreShard,
    Selection,
    Stage,
    TrainingOutcome,
)
from storage import tables
from storage.checks import refuse_finished, refuse_not_finite, refuse_ordinals
from storage.part import AlreadyKeptError, LedgerPart, dump, retried, run_row
from storage.ranking import ranked
from storage.turnover import insert_selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edco_core.records import Ints

Facts = Mapping[str, Any]


@dataclass(slots=True)
class _Scored:
    """Which samples of an interval have a score, so that none gets a second one."""

    key: tuple[str, int, int]
    is_scored: NDArray[np.bool_]
    num_shards: int = 0


class Stages(LedgerPart):
    """Verbs about the stages of an interval, written by the run's owner and read by anybody."""

    _scored: _Scored | None = None

    def stage_done(self, run_id: str, interval: int, stage: Stage) -> bool:
        """Whether the stage is finished. Raises NotFoundError for an unknown run."""
        return self.stage_facts(run_id, interval, stage) is not None

    @retried
    def stage_facts(self, run_id: str, interval: int, stage: Stage) -> dict[str, Any] | None:
        """``seconds`` and whatever else was kept about a finished stage; None before that."""
        with self._database.reading() as connection:
            row = connection.execute(
                text(
                    "SELECT seconds, facts FROM stages "
                    "WHERE run_key = :key AND interval = :interval AND stage = :stage"
                ),
                {
                    "key": run_row(connection, run_id).run_key,
                    "interval": interval,
                    "stage": stage,
                },
            ).first()
        return None if row is None else {**json.loads(row.facts), "seconds": row.seconds}

    @retried
    def finish_checkpoint(
        self,
        lease: Lease,
        checkpoint: Checkpoint,
        evaluation: Evaluation | None,
        seconds: float,
        facts: Facts | None = None,
    ) -> None:
        """Keep the weights an interval starts from, and the evaluation made with them, if any.

        Raises LedgerError when training left other weights for this interval.
        """
        with self._fenced(lease) as connection:
            self._begin(connection, lease, checkpoint.interval, "checkpoint")
            known = _checkpoint(connection, lease.run_key, checkpoint.interval)
            if known is None:
                self._keep_checkpoint(connection, lease.run_key, checkpoint)
            elif known.weights_sha256 != checkpoint.weights_sha256:
                raise LedgerError(
                    f"run {lease.run_id}, interval {checkpoint.interval}: the weights hash to "
                    f"{checkpoint.weights_sha256}, but training left {known.weights_sha256}"
                )
            if evaluation is not None:
                _keep_evaluation(connection, lease.run_key, evaluation)
            self._finish(connection, lease, checkpoint.interval, "checkpoint", seconds, facts)

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
            refuse_finished(connection, lease, interval, "scoring")
            pool_size = run_row(connection, lease.run_id).pool_size
            refuse_ordinals(where, shard.ordinals, pool_size)
            known = self._scored_before(connection, lease, interval, pool_size)
            if known.is_scored[shard.ordinals].any():
                raise AlreadyKeptError(f"{where}: samples of this shard are scored already")
            self._scored = None  # asked for anew when nobody tells whether this was committed
            connection.execute(
                insert(tables.score_shards),
                {
                    "run_key": lease.run_key,
                    "interval": interval,
                    "shard": known.num_shards,
                    "ordinals": np.asarray(shard.ordinals).astype("<i4").tobytes(),
                    "scores": np.asarray(shard.scores).astype("<f8").tobytes(),
                    "n_tokens": np.asarray(shard.n_tokens).astype("<i4").tobytes(),
                },
            )
        known.is_scored[shard.ordinals] = True
        known.num_shards += 1
        self._scored = known

    @retried
    def scored_ordinals(self, run_id: str, interval: int) -> Ints:
        """Samples of a half-scored pool that need not be scored again, ascending."""
        with self._database.reading() as connection:
            key = run_row(connection, run_id).run_key
            parts = [shard.ordinals for shard in _shards(connection, key, interval)]
        return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))

    def _scored_before(
        self, connection: Connection, lease: Lease, interval: int, pool_size: int
    ) -> _Scored:
        """What this owner knows of a half-scored pool; nobody else can have added to it."""
        key = (lease.run_id, lease.token, interval)
        if self._scored is None or self._scored.key != key:
            self._scored = _Scored(key, np.zeros(pool_size, np.bool_))
            for shard in _shards(connection, lease.run_key, interval):
                self._scored.is_scored[shard.ordinals] = True
                self._scored.num_shards += 1
        return self._scored

    @retried
    def finish_scoring(
        self, lease: Lease, interval: int, seconds: float, facts: Facts | None = None
    ) -> None:
        """Rank the scores of the whole pool: 1 = highest, ties by ordinal.

        Raises LedgerError when not every sample of the pool has one.
        """
        keys = {"key": lease.run_key, "interval": interval}
        with self._fenced(lease) as connection:
            self._begin(connection, lease, interval, "scoring")
            pool_size = run_row(connection, lease.run_id).pool_size
            shards = _shards(connection, lease.run_key, interval)
            with ranked(shards, pool_size, f"run {lease.run_id}, interval {interval}") as scores:
                self._database.spare_memory(connection)
                self._database.bulk_insert(
                    connection,
                    tables.scores,
                    scores.batches,
                    constants=_bulk_keys(lease, interval) | {"scored_at_interval": interval},
                )
            self._database.spare_memory(connection, None)
            connection.execute(
                text(
                    "UPDATE interval_stats SET n_scored = :n, score_mean = :mean, "
                    "score_p50 = :p50, score_p90 = :p90, score_max = :max "
                    "WHERE run_key = :key AND interval = :interval"
                ),
                {**keys, **scores.stats},
            )
            connection.execute(
                text("DELETE FROM score_shards WHERE run_key = :key AND interval = :interval"), keys
            )
            self._database.refresh_statistics(connection, tables.scores, lease.run_key, interval)
            self._finish(connection, lease, interval, "scoring", seconds, facts)
        self._scored = None

    @retried
    def scores(self, run_id: str, interval: int) -> ScoreShard:
        """All scores of a finished scoring stage, by ordinal. Raises NotFoundError before that."""
        with self._database.reading() as connection:
            run_key = run_row(connection, run_id).run_key
            part = self._database.part(tables.scores, run_key)
            columns = self._database.fetch_arrays(
                connection,
                f"SELECT ordinal, score, n_tokens FROM {part} "
                "WHERE run_key = :key AND interval = :interval ORDER BY ordinal",
                {"ordinal": "i4", "score": "f8", "n_tokens": "i4"},
                key=run_key,
                interval=interval,
            )
        if len(columns["ordinal"]) == 0:
            raise NotFoundError(f"run {run_id} has no scores at interval {interval}")
        return ScoreShard(
            ordinals=columns["ordinal"].astype(np.int64),
            scores=columns["score"],
            n_tokens=columns["n_tokens"].astype(np.int64),
        )

    @retried
    def finish_selection(
        self,
        lease: Lease,
        interval: int,
        selection: Selection,
        seconds: float,
        facts: Facts | None = None,
    ) -> None:
        """Keep a curriculum, and how it differs from all before it.

        Raises LedgerError when a sample is in it twice, is not in the pool, or has a score or
        probability that is not finite.
        """
        where = f"run {lease.run_id}, interval {interval}"
        chances = selection.probabilities
        lengths = {len(selection.ordinals), len(selection.scores), len(selection.ranks)}
        if chances is not None:
            lengths.add(len(chances))
            refuse_not_finite(where, "probabilities", selection.ordinals, chances)
        if len(lengths) != 1:
            raise LedgerError(f"{where}: the arrays of the selection have different lengths")
        refuse_not_finite(where, "scores", selection.ordinals, selection.scores)
        if selection.cutoff is not None and not math.isfinite(selection.cutoff):
            raise LedgerError(f"{where}: the cutoff is {selection.cutoff}, not a finite number")
        with self._fenced(lease) as connection:
            self._begin(connection, lease, interval, "selection")
            refuse_ordinals(where, selection.ordinals, run_row(connection, lease.run_id).pool_size)
            insert_selection(self._database, connection, lease, interval, selection)
            self._finish(connection, lease, interval, "selection", seconds, facts)

    @retried
    def selection(self, run_id: str, interval: int) -> Selection:
        """The curriculum of an interval, in training order. Raises NotFoundError."""
        with self._database.reading() as connection:
            key = run_row(connection, run_id).run_key
            rule = connection.execute(
                text(
                    "SELECT reason, cutoff, facts, generator FROM selection_rules "
                    "WHERE run_key = :key AND interval = :interval"
                ),
                {"key": key, "interval": interval},
            ).first()
            if rule is None:
                raise NotFoundError(f"run {run_id} has no selection at interval {interval}")
            columns = self._database.fetch_arrays(
                connection,
                "SELECT ordinal, score, rank, "
                "coalesce(probability, CAST('NaN' AS DOUBLE PRECISION)) AS probability "
                f"FROM {self._database.part(tables.selections, key)} "
                "WHERE run_key = :key AND interval = :interval ORDER BY position",
                {"ordinal": "i4", "score": "f8", "rank": "i4", "probability": "f8"},
                key=key,
                interval=interval,
            )
        chances = columns["probability"]
        return Selection(
            ordinals=columns["ordinal"].astype(np.int64),
            scores=columns["score"],
            ranks=columns["rank"].astype(np.int64),
            probabilities=None if np.isnan(chances).all() else chances,
            reason=rule.reason,
            cutoff=rule.cutoff,
            facts=json.loads(rule.facts),
            generator=json.loads(rule.generator),
        )

    @retried
    def finish_training(
        self,
        lease: Lease,
        interval: int,
        outcome: TrainingOutcome,
        evaluation: Evaluation | None,
        facts: Facts | None = None,
    ) -> None:
        """Keep what a training interval did, and the checkpoint the next one starts from.

        Row i of ``step_ordinals`` is the i-th optimizer step of this interval, the last one being
        ``outcome.checkpoint.step``; a negative ordinal is an empty slot.
        """
        where = f"run {lease.run_id}, interval {interval}"
        if outcome.checkpoint.interval != interval + 1:
            raise LedgerError(
                f"{where}: training must leave the checkpoint of interval {interval + 1}, "
                f"not of {outcome.checkpoint.interval}"
            )
        slots = _step_slots(outcome)
        with self._fenced(lease) as connection:
            self._begin(connection, lease, interval, "training")
            pool_size = run_row(connection, lease.run_id).pool_size
            refuse_ordinals(where, slots["ordinal"].to_numpy(), pool_size, distinct=False)
            keys = _bulk_keys(lease, interval)
            self._database.bulk_insert(connection, tables.step_slots, slots, constants=keys)
            self._database.refresh_statistics(
                connection, tables.step_slots, lease.run_key, interval
            )
            if outcome.rollouts is not None:
                groups = _rollout_groups(where, outcome.rollouts, pool_size)
                self._database.bulk_insert(
                    connection, tables.rollout_groups, groups, constants=keys
                )
            if outcome.steps:
                self._database.bulk_insert(
                    connection,
                    tables.optimizer_steps,
                    pa.table(
                        {
                            "step": [step.step for step in outcome.steps],
                            "loss": [step.loss for step in outcome.steps],
                            "learning_rate": [step.learning_rate for step in outcome.steps],
                            "grad_norm": [step.grad_norm for step in outcome.steps],
                            "num_tokens": [step.num_tokens for step in outcome.steps],
                        }
                    ),
                    constants={"run_key": lease.run_key, "interval": interval},
                )
                losses = [step.loss for step in outcome.steps]
                connection.execute(
                    text(
                        "UPDATE interval_stats SET train_loss = :loss "
                        "WHERE run_key = :key AND interval = :interval"
                    ),
                    {
                        "loss": math.fsum(losses) / len(losses),
                        "key": lease.run_key,
                        "interval": interval,
                    },
                )
            if evaluation is not None:
                _keep_evaluation(connection, lease.run_key, evaluation)
            self._keep_checkpoint(connection, lease.run_key, outcome.checkpoint)
            self._finish(connection, lease, interval, "training", outcome.seconds, facts)

    @retried
    def checkpoint(self, run_id: str, interval: int) -> Checkpoint | None:
        """The weights an interval starts from, if they are there yet."""
        with self._database.reading() as connection:
            return _checkpoint(connection, run_row(connection, run_id).run_key, interval)

    def _begin(self, connection: Connection, lease: Lease, interval: int, stage: Stage) -> None:
        if interval < 0:
            raise LedgerError(f"run {lease.run_id}: there is no interval {interval}")
        refuse_finished(connection, lease, interval, stage)
        keys = {"run_key": lease.run_key, "interval": interval}
        listed = connection.execute(
            text("SELECT 1 FROM interval_stats WHERE run_key = :run_key AND interval = :interval"),
            keys,
        ).first()
        if listed is None:
            connection.execute(insert(tables.interval_stats), keys)

    def _finish(
        self,
        connection: Connection,
        lease: Lease,
        interval: int,
        stage: Stage,
        seconds: float,
        facts: Facts | None,
    ) -> None:
        connection.execute(
            insert(tables.stages),
            {
                "run_key": lease.run_key,
                "interval": interval,
                "stage": stage,
                "finished_at": self._database.utc_now(connection),
                "seconds": float(seconds),
                "facts": dump(dict(facts or {})),
            },
        )

    def _keep_checkpoint(
        self, connection: Connection, run_key: int, checkpoint: Checkpoint
    ) -> None:
        connection.execute(
            insert(tables.checkpoints),
            {
                "run_key": run_key,
                "interval": checkpoint.interval,
                "step": checkpoint.step,
                "path": checkpoint.path,
                "weights_sha256": checkpoint.weights_sha256,
                "created_at": self._database.utc_now(connection),
            },
        )


def _checkpoint(connection: Connection, run_key: int, interval: int) -> Checkpoint | None:
    row = connection.execute(
        text(
            "SELECT step, path, weights_sha256 FROM checkpoints "
            "WHERE run_key = :key AND interval = :interval"
        ),
        {"key": run_key, "interval": interval},
    ).first()
    if row is None:
        return None
    return Checkpoint(
        interval=interval, step=row.step, path=row.path, weights_sha256=row.weights_sha256
    )


def _keep_evaluation(connection: Connection, run_key: int, evaluation: Evaluation) -> None:
    if evaluation.interval < BASELINE_INTERVAL:
        raise LedgerError(f"there is no interval {evaluation.interval} to evaluate")
    common = {"run_key": run_key, "interval": evaluation.interval, "metric": evaluation.metric}
    whole: dict[str, Any] = {
        "category": None,
        "value": evaluation.value,
        "n": evaluation.n,
        "seconds": evaluation.seconds,
    }
    parts: list[dict[str, Any]] = [
        {"category": category, "value": value, "n": n, "seconds": None}
        for category, (value, n) in sorted(evaluation.by_category.items())
    ]
    connection.execute(
        insert(tables.evaluation_results), [{**common, **part} for part in (whole, *parts)]
    )


def _step_slots(outcome: TrainingOutcome) -> pa.Table:
    num_steps, num_slots = outcome.step_ordinals.shape
    first_step = outcome.checkpoint.step - num_steps + 1
    filled = outcome.step_ordinals.ravel() >= 0
    return pa.table(
        {
            "ordinal": outcome.step_ordinals.ravel()[filled],
            "step": np.repeat(np.arange(first_step, first_step + num_steps), num_slots)[filled],
            "slot": np.tile(np.arange(num_slots), num_steps)[filled],
        }
    )


def _rollout_groups(where: str, rollouts: RolloutGroups, pool_size: int) -> pa.Table:
    refuse_ordinals(where, rollouts.ordinals, pool_size, distinct=False)
    for name in ("reward_mean", "reward_std", "advantage_abs_mean"):
        refuse_not_finite(where, name, rollouts.ordinals, getattr(rollouts, name))
    return pa.table(
        {
            "ordinal": rollouts.ordinals,
            "step": rollouts.steps,
            "n": rollouts.n,
            "n_correct": rollouts.n_correct,
            "reward_mean": rollouts.reward_mean,
            "reward_std": rollouts.reward_std,
            "advantage_abs_mean": rollouts.advantage_abs_mean,
        }
    )


def _bulk_keys(lease: Lease, interval: int) -> dict[str, int | str]:
    return {"run_key": lease.run_key, "run_id": lease.run_id, "interval": interval}


def _shards(connection: Connection, run_key: int, interval: int) -> Iterator[ScoreShard]:
    """The shards of a pool that is not scored to its end, one after the other.

    Each is asked for by itself: databases and drivers keep a whole answer of such rows in memory.
    """
    keys = {"key": run_key, "interval": interval}
    which = "FROM score_shards WHERE run_key = :key AND interval = :interval"
    num_shards = connection.execute(text(f"SELECT count(*) {which}"), keys).scalar_one()
    statement = text(f"SELECT ordinals, scores, n_tokens {which} AND shard = :shard")
    for number in range(num_shards):
        row = connection.execute(statement, {**keys, "shard": number}).one()
        yield ScoreShard(
            ordinals=np.frombuffer(row.ordinals, "<i4").astype(np.int64),
            scores=np.frombuffer(row.scores, "<f8"),
            n_tokens=np.frombuffer(row.n_tokens, "<i4").astype(np.int64),
        )
