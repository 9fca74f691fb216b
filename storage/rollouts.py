"""What reinforcement learning sampled, and what strategies believe of it."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, update

from edco_core.errors import LedgerError
from edco_core.records import (
    Beliefs,
    Lease,
    RolloutAnswers,
    RolloutGroups,
    TrainingOutcome,
)
from storage import tables
from storage.checks import refuse_not_finite, refuse_ordinals
from storage.engine import Database
from storage.part import LedgerPart, retried, run_row
from storage.stage_part import bulk_keys


class Rollouts(LedgerPart):
    """Verbs that read them back, for the strategies of later intervals."""

    @retried
    def beliefs(self, run_id: str, interval: int) -> Beliefs | None:
        """What was believed when that interval's curriculum was selected; None: nothing."""
        with self._database.reading() as connection:
            key = run_row(connection, run_id).run_key
            columns = self._database.fetch_arrays(
                connection,
                "SELECT ordinal, alpha, beta "
                f"FROM {self._database.part(tables.sample_beliefs, key)} "
                "WHERE run_key = :key AND interval = :interval ORDER BY ordinal",
                {"ordinal": "i4", "alpha": "f8", "beta": "f8"},
                key=key,
                interval=interval,
            )
        if not len(columns["ordinal"]):
            return None
        return Beliefs(columns["ordinal"].astype(np.int64), columns["alpha"], columns["beta"])

    @retried
    def rollouts(self, run_id: str, interval: int) -> RolloutGroups | None:
        """What reinforcement learning sampled in an interval, in that order; None: nothing."""
        names = {
            "step": "i4", "ordinal": "i4", "slot": "i4", "n": "i4", "n_correct": "i4",
            "reward_mean": "f8", "reward_std": "f8", "advantage_abs_mean": "f8",
            "n_tokens_mean": "f8", "truncated_share": "f8",
        }  # fmt: skip
        with self._database.reading() as connection:
            key = run_row(connection, run_id).run_key
            columns = self._database.fetch_arrays(
                connection,
                f"SELECT {', '.join(f'coalesce({n}, -1) AS {n}' for n in names)} "
                f"FROM {self._database.part(tables.rollout_groups, key)} "
                "WHERE run_key = :key AND interval = :interval ORDER BY draw",
                names,
                key=key,
                interval=interval,
            )
        if not len(columns["ordinal"]):
            return None
        whole = {n: columns[n].astype(np.int64) for n, kind in names.items() if kind == "i4"}
        return RolloutGroups(
            steps=whole["step"],
            ordinals=whole["ordinal"],
            slots=whole["slot"],
            n=whole["n"],
            n_correct=whole["n_correct"],
            **{n: columns[n] for n, kind in names.items() if kind == "f8"},
        )


def keep_rollouts(
    database: Database,
    connection: Connection,
    lease: Lease,
    interval: int,
    outcome: TrainingOutcome,
    pool_size: int,
) -> None:
    """What reinforcement learning sampled, and the interval's statistics of it."""
    rollouts, keys = outcome.rollouts, bulk_keys(lease, interval)
    assert rollouts is not None
    where = f"run {lease.run_id}, interval {interval}"
    groups = _rollout_groups(where, rollouts, pool_size)
    database.bulk_insert(connection, tables.rollout_groups, groups, constants=keys)
    if outcome.answers is not None:
        answers = _rollout_answers(where, rollouts, outcome.answers)
        database.bulk_insert(connection, tables.rollout_answers, answers, constants=keys)
    entropies = [s.policy_entropy for s in outcome.steps if s.policy_entropy is not None]
    num_answers = int(rollouts.n.sum())
    connection.execute(
        update(tables.interval_stats)
        .where(
            tables.interval_stats.c.run_key == lease.run_key,
            tables.interval_stats.c.interval == interval,
        )
        .values(
            policy_entropy=math.fsum(entropies) / len(entropies) if entropies else None,
            reward_mean=math.fsum(rollouts.n * rollouts.reward_mean) / max(1, num_answers),
            n_groups=len(rollouts.n),
            n_without_signal=int((rollouts.reward_std == 0).sum()),
            n_passed_over=int((rollouts.slots < 0).sum()),
            n_answers=num_answers,
            n_correct=int(rollouts.n_correct.sum()),
        )
    )


def _rollout_groups(where: str, rollouts: RolloutGroups, pool_size: int) -> pa.Table:
    refuse_ordinals(where, rollouts.ordinals, pool_size, distinct=False)
    for name in (
        "reward_mean", "reward_std", "advantage_abs_mean", "n_tokens_mean", "truncated_share",
    ):  # fmt: skip
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
            "n_tokens_mean": rollouts.n_tokens_mean,
            "truncated_share": rollouts.truncated_share,
            "draw": np.arange(len(rollouts.n)),
            "slot": pa.array(rollouts.slots, mask=rollouts.slots < 0),
        }
    )


def _rollout_answers(where: str, rollouts: RolloutGroups, answers: RolloutAnswers) -> pa.Table:
    groups = answers.groups
    if not np.array_equal(np.bincount(groups, minlength=len(rollouts.n)), rollouts.n):
        raise LedgerError(f"{where}: the groups of rollouts have other answers than they say")
    refuse_not_finite(where, "rewards", rollouts.ordinals[groups], answers.rewards)
    firsts = np.cumsum(rollouts.n) - rollouts.n
    return pa.table(
        {
            "ordinal": rollouts.ordinals[groups],
            "reward": answers.rewards,
            "step": rollouts.steps[groups],
            "draw": groups,
            "number": np.arange(len(groups)) - firsts[groups],
            "n_tokens": answers.n_tokens,
            "is_correct": answers.is_correct,
            "truncated": answers.truncated,
            # Postgres holds no NUL in a text.
            "answer": [each.replace("\x00", "\ufffd") for each in answers.texts],
        }
    )
