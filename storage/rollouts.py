"""What reinforcement learning sampled, and what strategies believe of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, update

from edco_core.errors import LedgerError
from edco_core.records import (
    Beliefs,
    GradientTerms,
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

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edco_core.records import Ints

_GRADIENTS = ("gradient_correct", "gradient_wrong", "gradient_gap")
_MEASURED = ", ".join(
    f"coalesce({name}, CAST('NaN' AS DOUBLE PRECISION)) AS {name}" for name in _GRADIENTS
)

_GROUPS = f"""
SELECT step, ordinal, coalesce(slot, -1) AS slot, n, n_correct,
       coalesce(n_trained, CASE WHEN slot IS NULL THEN 0 ELSE n END) AS n_trained,
       reward_mean, reward_std, advantage_abs_mean, n_tokens_mean, truncated_share, {_MEASURED}
FROM {{groups}}
WHERE run_key = :key AND interval = :interval ORDER BY draw
"""

# The last group of each sample in which gradients were measured.
_NEWEST_GRADIENTS = f"""
SELECT ordinal, {_MEASURED}
FROM (
    SELECT g.*, row_number() OVER (PARTITION BY ordinal ORDER BY interval DESC, draw DESC) AS age
    FROM {{groups}} g
    WHERE run_key = :key AND interval < :interval
      AND (gradient_correct IS NOT NULL OR gradient_wrong IS NOT NULL)
) newest
WHERE age = 1 ORDER BY ordinal
"""


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
        """The groups of an interval, in the order they were asked; None where there are none."""
        counts = ("step", "ordinal", "slot", "n", "n_correct", "n_trained")
        means = (
            "reward_mean", "reward_std", "advantage_abs_mean", "n_tokens_mean", "truncated_share",
        )  # fmt: skip
        kinds = dict.fromkeys(counts, "i4") | dict.fromkeys((*means, *_GRADIENTS), "f8")
        found = self._of_run(_GROUPS, kinds, run_id, interval)
        if not len(found["ordinal"]):
            return None
        whole = {name: found[name].astype(np.int64) for name in counts}
        terms = GradientTerms(*(found[name] for name in _GRADIENTS))
        return RolloutGroups(
            steps=whole["step"],
            ordinals=whole["ordinal"],
            slots=whole["slot"],
            n=whole["n"],
            n_correct=whole["n_correct"],
            n_trained=whole["n_trained"],
            **{name: found[name] for name in means},
            gradients=None if np.isnan([terms.correct, terms.wrong]).all() else terms,
        )

    @retried
    def gradient_terms(self, run_id: str, interval: int) -> tuple[Ints, GradientTerms] | None:
        """The newest measurement of each sample before an interval: ordinals, ascending, and terms.

        None where nothing was measured.
        """
        kinds = {"ordinal": "i4"} | dict.fromkeys(_GRADIENTS, "f8")
        found = self._of_run(_NEWEST_GRADIENTS, kinds, run_id, interval)
        if not len(found["ordinal"]):
            return None
        terms = GradientTerms(*(found[name] for name in _GRADIENTS))
        return found["ordinal"].astype(np.int64), terms

    def _of_run(
        self, sql: str, kinds: dict[str, str], run_id: str, interval: int
    ) -> dict[str, NDArray[Any]]:
        with self._database.reading() as connection:
            key = run_row(connection, run_id).run_key
            groups = self._database.part(tables.rollout_groups, key)
            return self._database.fetch_arrays(
                connection, sql.format(groups=groups), kinds, key=key, interval=interval
            )


def keep_rollouts(
    database: Database,
    connection: Connection,
    lease: Lease,
    interval: int,
    outcome: TrainingOutcome,
    pool_size: int,
) -> None:
    """What reinforcement learning sampled, and the interval's statistics of it.

    Raises LedgerError for groups that contradict themselves.
    """
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
    n_trained = rollouts.n_trained
    if n_trained is None:
        n_trained = np.where(rollouts.slots < 0, 0, rollouts.n)
    if not np.array_equal(n_trained > 0, rollouts.slots >= 0):
        raise LedgerError(
            f"{where}: a group has a slot and no answers trained on, or none and some"
        )
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
            "n_trained": n_trained,
            **_gradient_columns(where, rollouts),
        }
    )


def _gradient_columns(where: str, rollouts: RolloutGroups) -> dict[str, pa.Array]:
    """Null where nothing was measured."""
    terms = rollouts.gradients
    if terms is None:
        return {name: pa.nulls(len(rollouts.n), pa.float64()) for name in _GRADIENTS}
    columns = dict(zip(_GRADIENTS, (terms.correct, terms.wrong, terms.gap), strict=True))
    for name, values in columns.items():
        refuse_not_finite(where, name, rollouts.ordinals, np.where(np.isnan(values), 0.0, values))
    return {name: pa.array(each, mask=np.isnan(each)) for name, each in columns.items()}


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
