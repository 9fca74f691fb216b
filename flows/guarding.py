"""A run's guard after an interval: the numbers its alarms look at, and the stop they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edco_core.config import GrpoSection
from edco_core.curriculum.guarded import control_of
from edco_core.errors import GuardStop
from edco_core.guard import Measurement, Progress, Watched, alarms_of, progress_of
from edco_core.records import Alarm, Evaluation, TrainingOutcome
from flows.open_run import OpenRun
from storage import queries

if TYPE_CHECKING:
    from edco_core.records import Ints


def watch(
    run: OpenRun, interval: int, outcome: TrainingOutcome, evaluation: Evaluation | None
) -> list[Alarm]:
    """The alarms of an interval whose training is about to be kept."""
    guard = run.config.curriculum.guard
    if guard is None:
        return []
    pool_size = len(run.pool)
    rows = queries.intervals(run.ledger, run.run_id)[: interval + 1]
    measured = [
        Measurement(row["interval"], row["value"], row["n"])
        for row in queries.evaluations(run.ledger, run.run_id)
        if row["category"] is None and row["metric"] == _metric(run)
    ]
    if evaluation is not None:
        measured.append(Measurement(interval, evaluation.value, evaluation.n))
    control = control_of(guard, pool_size, run.config.run.seed)
    entropies = [step.policy_entropy for step in outcome.steps if step.policy_entropy is not None]
    training = run.config.training
    watched = Watched(
        interval=interval,
        metric=_metric(run),
        measured=measured,
        jaccard=rows[-1]["jaccard"],
        n_selected=rows[-1]["n_selected"],
        n_first_time=rows[-1]["n_first_time"],
        n_ever=sum(row["n_first_time"] for row in rows),
        pool_size=pool_size - len(control),
        category_shares=_category_shares(run, interval),
        scorer=run.config.scoring.type,
        score_means=[row["score_mean"] for row in rows],
        policy_entropies=[
            *(row["policy_entropy"] for row in rows[:-1]),
            float(np.mean(entropies)) if entropies else None,
        ],
        policy_entropy_share=training.entropy_alarm if isinstance(training, GrpoSection) else 0.0,
        progress=_progress(run, interval, control),
        earlier=run.ledger.alarms(run.run_id),
    )
    return alarms_of(guard, watched, is_last=interval == run.plan.num_intervals - 1)


def stop_on(alarms: Sequence[Alarm]) -> None:
    """Raise GuardStop where an alarm is to stop the run; what it is about is kept by now."""
    stopping = [alarm for alarm in alarms if alarm.action == "stop"]
    if stopping:
        raise GuardStop(
            "stopped by curriculum.guard: " + "; ".join(alarm.message for alarm in stopping)
        )


def _metric(run: OpenRun) -> str | None:
    return run.config.evaluation.metric.type if run.config.evaluation else None


def _category_shares(run: OpenRun, interval: int) -> dict[str, tuple[float, float]]:
    """Of a pool in which some have a category: its share of the curriculum and of the pool."""
    categories = run.samples.categories
    if not categories.names:
        return {}
    chosen = run.ledger.selection(run.run_id, interval).ordinals
    num = len(categories.names)
    selected, whole = (
        np.bincount(codes[codes >= 0], minlength=num) / len(codes)
        for codes in (categories.codes[chosen], categories.codes)
    )
    return {
        name: (float(ours), float(theirs))
        for name, ours, theirs in zip(categories.names, selected, whole, strict=True)
    }


def _progress(run: OpenRun, interval: int, control: Ints) -> Progress | None:
    """By the scores this interval began with."""
    if interval == 0:
        return None
    first, now = (run.ledger.scores(run.run_id, k).scores for k in (0, interval))
    is_control = np.zeros(len(first), dtype=bool)
    is_control[control] = True
    trained = np.unique(
        np.concatenate([run.ledger.selection(run.run_id, k).ordinals for k in range(interval)])
    )
    return progress_of(first, now, is_control, trained)
