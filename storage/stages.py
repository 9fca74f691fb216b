"""Stages: what the steps of an interval leave behind; ``storage/scoring.py`` has the scores.

A stage is finished exactly when its row in ``stages`` exists, and that row is written last in the
one transaction that writes the stage's data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, insert, text

from edco_core.errors import LedgerError, NotFoundError
from edco_core.records import (
    BASELINE_INTERVAL,
    Alarm,
    Checkpoint,
    Evaluation,
    Lease,
    Measured,
    Selection,
    Stage,
    TrainingOutcome,
)
from storage import tables
from storage.alarms import insert_alarms
from storage.checks import refuse_not_finite, refuse_ordinals
from storage.part import hold, retried, run_row
from storage.rollouts import keep_rollouts
from storage.stage_part import Facts, StagePart, bulk_keys
from storage.turnover import insert_selection
from storage.upkeep import refuse_owned


class Stages(StagePart):
    """Verbs about the stages of an interval, written by the run's owner and read by anybody."""

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
            pool_size = run_row(connection, lease.run_id).pool_size
            refuse_ordinals(where, selection.ordinals, pool_size)
            if selection.beliefs is not None:
                refuse_ordinals(where, selection.beliefs.ordinals, pool_size)
                for name in ("alpha", "beta"):
                    values = getattr(selection.beliefs, name)
                    refuse_not_finite(where, name, selection.beliefs.ordinals, values)
            insert_selection(self._database, connection, lease, interval, pool_size, selection)
            self._finish(connection, lease, interval, "selection", seconds, facts)

    @retried
    def selection(self, run_id: str, interval: int) -> Selection:
        """The curriculum of an interval, in training order. Raises NotFoundError."""
        with self._database.reading() as connection:
            key = run_row(connection, run_id).run_key
            rule = connection.execute(
                text(
                    "SELECT reason, cutoff, facts, generator, state FROM selection_rules "
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
            state=json.loads(rule.state) if rule.state else {},
        )

    @retried
    def finish_training(
        self,
        lease: Lease,
        interval: int,
        outcome: TrainingOutcome,
        evaluation: Evaluation | None,
        facts: Facts | None = None,
        alarms: Sequence[Alarm] = (),
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
            keys = bulk_keys(lease, interval)
            self._database.bulk_insert(connection, tables.step_slots, slots, constants=keys)
            self._database.refresh_statistics(
                connection, tables.step_slots, lease.run_key, interval
            )
            if outcome.rollouts is not None:
                keep_rollouts(self._database, connection, lease, interval, outcome, pool_size)
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
                            "policy_entropy": [step.policy_entropy for step in outcome.steps],
                            "kl": [step.kl for step in outcome.steps],
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
            insert_alarms(connection, lease, interval, alarms)
            facts = {**outcome.facts, **(facts or {})}
            self._finish(connection, lease, interval, "training", outcome.seconds, facts)

    @retried
    def checkpoint(self, run_id: str, interval: int) -> Checkpoint | None:
        """The weights an interval starts from, if they are there yet."""
        with self._database.reading() as connection:
            return _checkpoint(connection, run_row(connection, run_id).run_key, interval)

    @retried
    def mark_checkpoint_removed(
        self, run_id: str, interval: int, lease: Lease | None = None
    ) -> None:
        """Keep that the files of the weights an interval starts from are gone.

        To be called before they go: what is said to be gone and is there does no harm.  The run's
        owner gives its lease; without one nobody may own the run.  A second time changes nothing.
        Raises NotFoundError, RunBusyError and LeaseLostError.
        """
        with self._database.writing() as connection:
            run_key = run_row(connection, run_id).run_key
            if lease is None:
                refuse_owned(self._database, connection, None, run_key)
            else:
                hold(connection, lease)
            if _checkpoint(connection, run_key, interval) is None:
                raise NotFoundError(f"run {run_id} has no checkpoint of interval {interval}")
            connection.execute(
                text(
                    "UPDATE saved_checkpoints SET removed_at = :now WHERE run_key = :key "
                    "AND interval = :interval AND removed_at IS NULL"
                ),
                {"now": self._database.utc_now(connection), "key": run_key, "interval": interval},
            )

    def _keep_checkpoint(
        self, connection: Connection, run_key: int, checkpoint: Checkpoint
    ) -> None:
        connection.execute(
            insert(tables.saved_checkpoints),
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
            "SELECT step, path, weights_sha256 FROM saved_checkpoints "
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
    main = Measured(evaluation.metric, evaluation.value, evaluation.n, evaluation.by_category)
    rows: list[dict[str, Any]] = []
    for measured in (main, *evaluation.further):
        common = {"run_key": run_key, "interval": evaluation.interval, "metric": measured.metric}
        seconds = evaluation.seconds if measured is main else None  # of all: told once
        whole = {"category": None, "value": measured.value, "n": measured.n, "seconds": seconds}
        parts: list[dict[str, Any]] = [
            {"category": category, "value": value, "n": n, "seconds": None}
            for category, (value, n) in sorted(measured.by_category.items())
        ]
        rows += [{**common, **part} for part in (whole, *parts)]
    connection.execute(insert(tables.evaluation_results), rows)


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
