"""What a comparison came to: read from the ledger, tested against the random draw.

Nothing is left out: strategies are sorted by their mean, runs that failed are counted and named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edco_core.records import ComparisonRow
from edco_core.statistics import Estimate, compare_paired, estimate, holm
from flows.compare_plan import Planned, PlannedArm, PlannedRun, paid_scorings
from flows.display import number
from flows.reading import Answer, live_status
from storage import Ledger, queries
from storage.queries import Rows

LEVEL = 0.05
"""A strategy is said to be better or worse only where the corrected p value is below."""

FEW_SEEDS = 3

_UNLIKE_PLANS, _UNLIKE_SECONDS = 1.05, 1.1
"""Largest over smallest budget of the strategies, beyond which that is said."""

_COARSE = 1.5
"""A plan with as many times the samples per interval that were asked for is pointed out."""


@dataclass(frozen=True, slots=True)
class Point:
    """A run after some of its training."""

    steps: int
    seconds: float
    """Of training, selection, and the scoring its strategy needs."""
    metric: float


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run of a comparison, as far as it came."""

    run: PlannedRun
    status: str
    message: str | None = None
    points: tuple[Point, ...] = ()
    """From before training on; where the metric was measured."""
    tail: float | None = None
    """The last metric, every category counted alike."""
    weights_sha256: str | None = None
    """Of the last checkpoint."""
    seconds: float = 0.0
    scoring_seconds: float = 0.0

    @property
    def is_finished(self) -> bool:
        return self.status == "finished"

    @property
    def final(self) -> float:
        return self.points[-1].metric

    def facts(self) -> dict[str, Any]:
        return {
            "run_id": self.run.run_id, "label": self.run.label, "seed": self.run.seed,
            "status": self.status, "message": self.message,
            "metric": self.final if self.is_finished else None,
            "seconds": self.seconds if self.is_finished else None,
            "scoring_seconds": self.scoring_seconds if self.is_finished else None,
        }  # fmt: skip


@dataclass(frozen=True)
class Result:
    """The table, and all it is made from."""

    planned: Planned
    records: tuple[ComparisonRow, ...]
    """By their mean, highest first."""
    runs: tuple[RunResult, ...]

    @cached_property
    def rows(self) -> Rows:
        """A row for each strategy, as ``--csv`` has it."""
        names = list(ComparisonRow.__dataclass_fields__)
        return Rows(names, (asdict(record) for record in self.records))

    @property
    def num_finished(self) -> int:
        return sum(run.is_finished for run in self.runs)

    def finished(self, label: str) -> list[RunResult]:
        """The runs of a strategy that are finished, by seed."""
        return [run for run in self.runs if run.run.label == label and run.is_finished]

    @property
    def title(self) -> str:
        comparison = self.planned.comparison
        budget = comparison.budget
        cost = "equal steps"
        if budget is not None:
            cost = f"{budget.steps} steps" if budget.steps else f"{budget.seconds:g} s"
        return (
            f"{comparison.name}: {self.planned.metric} after {cost}, seeds "
            f"{', '.join(map(str, comparison.seeds))}; differences to {comparison.reference}"
        )

    @property
    def remarks(self) -> list[str]:
        """What has to be said beside the table."""
        lines = []
        num_seeds = min((record.n_seeds for record in self.records), default=0)
        if num_seeds < FEW_SEEDS:
            advice = f"raise compare.seeds to {FEW_SEEDS} or more"
            if len(self.planned.comparison.seeds) >= FEW_SEEDS:
                advice = "type 'edco compare' again without --show, which carries on what is left"
            lines.append(
                f"{num_seeds} finished {'seed' if num_seeds == 1 else 'seeds'} of a strategy say "
                f"next to nothing: {advice}"
            )
        lines += [
            f"{arm.label}: {arm.plan.samples_per_interval} samples per interval instead of "
            f"{arm.wanted_samples}, to use the budget up in {arm.plan.num_intervals} intervals; a "
            "larger budget is planned closer"
            for arm in self.planned.arms
            if not 1 / _COARSE < arm.plan.samples_per_interval / arm.wanted_samples < _COARSE
        ]
        lines += self._unlike_budgets()
        if same := [record.label for record in self.records if self._is_one(record.label)]:
            lines.append(
                f"{', '.join(same)}: nothing in these runs depends on the seed, all seeds came to "
                "the same weights and are one observation; give each seed a pool of its own, e.g. "
                "data: {train: pool-{seed}.jsonl}"
            )
        lines += [
            f"not finished: {run.run.label}, seed {run.run.seed}: {run.status}"
            + (f" ({run.message})" if run.message else "")
            for run in self.runs
            if not run.is_finished
        ]
        return [*lines, self.verdict]

    def _unlike_budgets(self) -> list[str]:
        """Where strategies were planned with unlike budgets, or came to unlike seconds."""
        budget = self.planned.comparison.budget
        if budget is None:
            return []
        lines = []
        unit = "steps" if budget.seconds is None else "s"
        plans = {
            arm.label: arm.planned_seconds or arm.plan.total_steps for arm in self.planned.arms
        }
        if unlike := _unlike(plans, unit, _UNLIKE_PLANS):
            lines.append(
                f"planned with {unlike}, as an interval takes whole steps: a larger budget is "
                "planned closer"
            )
        took = {r.label: r.seconds for r in self.records if r.seconds}
        if budget.seconds is not None and (unlike := _unlike(took, "s", _UNLIKE_SECONDS)):
            lines.append(
                f"took {unlike} on average: seconds that are equal in the plan are not where other "
                "work is done beside it; who took longer had the same steps as planned"
            )
        return lines

    def _is_one(self, label: str) -> bool:
        """Whether several seeds of a strategy are the same run."""
        runs = self.finished(label)
        return len(runs) > 1 and len({run.weights_sha256 for run in runs}) == 1

    @property
    def verdict(self) -> str:
        """Who is better or worse than the reference, where the test says so."""
        reference = self.planned.comparison.reference
        told = {
            "better": [r.label for r in self.records if _is_apart(r) and (r.difference or 0) > 0],
            "worse": [r.label for r in self.records if _is_apart(r) and (r.difference or 0) < 0],
        }
        words = [f"{how} than {reference}: {', '.join(who)}" for how, who in told.items() if who]
        test = f"paired t test, Holm's correction, p < {LEVEL:g}"
        if words:
            return f"{'; '.join(words)} ({test})"
        if all(record.n_pairs < 2 for record in self.records):
            return f"nothing can be tested yet: that takes two seeds of {reference} and another"
        return f"no strategy can be told apart from {reference} ({test})"

    @cached_property
    def columns(self) -> dict[str, str]:
        """Of the table people see."""
        return {
            "label": "strategy", "n_seeds": "seeds", "mean": self.planned.metric,
            "interval": "95 %", "difference": "difference", "difference_interval": "95 %",
            "p_value": "p", "p_adjusted": "p corrected", "p_sign_flip": "p sign flip",
            "tail_mean": "tail", "steps": "steps", "seconds": "seconds",
            "scoring_seconds": "scoring", "scoring_share": "share",
            "steps_to_reference": "steps to ref", "seconds_to_reference": "seconds to ref",
        }  # fmt: skip

    def answer(self) -> Answer:
        """The table, for people and programs."""
        comparison = self.planned.comparison
        facts = {
            "experiment": comparison.name,
            "metric": self.planned.metric,
            "reference": comparison.reference,
            "seeds": list(comparison.seeds),
            "strategies": list(self.rows),
            "runs": [run.facts() for run in self.runs],
            "remarks": self.remarks,
        }
        return Answer(
            facts, self.rows, self.columns, self.shown, lines=[self.title], after=self.remarks
        )

    @property
    def shown(self) -> list[dict[str, Any]]:
        """The rows as people see them."""
        return [_shown(row) for row in self.rows]


def read_result(ledger: Ledger, planned: Planned) -> Result:
    """What the ledger has of a comparison's runs, as a table; half-done ones count for nothing."""
    known = {row["run_id"]: row for row in queries.runs(ledger)}
    runs = tuple(_run_result(ledger, planned, run, known.get(run.run_id)) for run in planned.runs)
    by_label: dict[str, dict[int, RunResult]] = {arm.label: {} for arm in planned.arms}
    for each in runs:
        if each.is_finished:
            by_label[each.run.label][each.run.seed] = each
    reference = by_label[planned.comparison.reference]
    level = float(np.mean([run.final for run in reference.values()])) if reference else None
    records = [
        _record(arm, planned, list(runs), by_label[arm.label], reference, level)
        for arm in planned.arms
    ]
    tested = [i for i, r in enumerate(records) if r["label"] != planned.comparison.reference]
    corrected = holm([records[i]["p_value"] for i in tested])
    for i, p in zip(tested, corrected, strict=True):
        records[i]["p_adjusted"] = p
    made = [ComparisonRow(**record) for record in records]
    made.sort(key=lambda r: (r.mean is None, -(r.mean or 0.0), r.label))
    return Result(planned, tuple(made), runs)


def _run_result(
    ledger: Ledger, planned: Planned, run: PlannedRun, known: Mapping[str, Any] | None
) -> RunResult:
    if known is None:
        return RunResult(run, "not started")
    if known["status"] != "finished":
        return RunResult(run, live_status(dict(known)), known["message"])
    arm = next(each for each in planned.arms if each.label == run.label)
    intervals = queries.intervals(ledger, run.run_id)
    evaluations = queries.evaluations(ledger, run.run_id)
    paid_for = paid_scorings(arm.config, len(intervals))
    seconds = scoring = 0.0
    points = [Point(0, 0.0, known["baseline_metric"])]
    for k, row in enumerate(intervals):
        paid = row["scoring_seconds"] if k in paid_for else 0.0
        scoring += paid
        seconds += paid + row["selection_seconds"] + row["training_seconds"]
        if row["metric"] is not None:
            points.append(Point((k + 1) * arm.plan.steps_per_interval, seconds, row["metric"]))
    last = max(each["interval"] for each in evaluations)
    parts = [
        each["value"]
        for each in evaluations
        if (each["interval"], each["metric"]) == (last, planned.metric)
        and each["category"] is not None
    ]
    tail = float(np.mean(parts)) if parts else None
    weights = queries.checkpoints(ledger, run.run_id)[-1]["weights_sha256"]
    return RunResult(run, "finished", None, tuple(points), tail, weights, seconds, scoring)


def _record(
    arm: PlannedArm, planned: Planned, runs: Sequence[RunResult],
    finished: Mapping[int, RunResult], reference: Mapping[int, RunResult], level: float | None,
) -> dict[str, Any]:  # fmt: skip
    done = list(finished.values())
    mean = estimate([run.final for run in done]) if done else None
    tails = [run.tail for run in done if run.tail is not None]
    seeds = [seed for seed in finished if seed in reference]
    paired = None
    if seeds and arm.label != planned.comparison.reference:
        paired = compare_paired(
            [finished[seed].final for seed in seeds], [reference[seed].final for seed in seeds]
        )
    reached = _first_at(done, level)
    difference = paired.difference if paired else Estimate(0, 0.0, None, None)
    return {
        "label": arm.label,
        "strategy": arm.strategy,
        "n_seeds": len(done),
        "n_failed": sum(run.run.label == arm.label and run.status == "failed" for run in runs),
        "metric": planned.metric,
        "mean": mean.mean if mean else None,
        "ci_low": mean.low if mean else None,
        "ci_high": mean.high if mean else None,
        "tail_mean": float(np.mean(tails)) if tails else None,
        "difference": difference.mean if paired else None,
        "difference_low": difference.low,
        "difference_high": difference.high,
        "n_pairs": difference.n,
        "p_value": paired.p_t if paired else None,
        "p_adjusted": None,
        "p_sign_flip": paired.p_sign_flip if paired else None,
        "steps": arm.plan.total_steps,
        "seconds": float(np.mean([run.seconds for run in done])) if done else None,
        "scoring_seconds": float(np.mean([run.scoring_seconds for run in done])) if done else None,
        "steps_to_reference": reached.steps if reached else None,
        "seconds_to_reference": reached.seconds if reached else None,
    }


def mean_curve(runs: Sequence[RunResult]) -> list[Point]:
    """The mean over the seeds of a strategy, wherever all of them were measured."""
    steps = sorted(set.intersection(*({p.steps for p in run.points} for run in runs)))
    at = [{point.steps: point for point in run.points} for run in runs]
    return [
        Point(
            step,
            float(np.mean([each[step].seconds for each in at])),
            float(np.mean([each[step].metric for each in at])),
        )
        for step in steps
    ]


def _first_at(runs: Sequence[RunResult], level: float | None) -> Point | None:
    """Where the mean over seeds is first no lower than what random came to in the end.

    Of the mean and not of each seed, some of which may never get there.
    """
    if level is None or not runs:
        return None
    return next((p for p in mean_curve(runs) if p.metric >= level), None)


def _unlike(amounts: Mapping[str, float], unit: str, ratio: float) -> str | None:
    """The smallest and the largest amount in words, where they are further apart than ``ratio``."""
    ranked = sorted(amounts, key=amounts.__getitem__)
    if not ranked or amounts[ranked[-1]] <= ratio * amounts[ranked[0]]:
        return None
    ends = (f"{amounts[label]:.4g} {unit} ({label})" for label in (ranked[0], ranked[-1]))
    return " to ".join(ends)


def _is_apart(record: ComparisonRow) -> bool:
    return record.p_adjusted is not None and record.p_adjusted < LEVEL


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as people see it."""
    share = None
    if row["seconds"]:
        share = f"{row['scoring_seconds'] / row['seconds']:.0%}"
    return {
        **row,
        "interval": _interval(row["ci_low"], row["ci_high"]),
        "difference_interval": _interval(row["difference_low"], row["difference_high"]),
        "scoring_share": share,
        **{
            key: None if row[key] is None else f"{row[key]:.1f}"
            for key in ("seconds", "scoring_seconds", "seconds_to_reference")
        },
    }


def _interval(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{number(low)} to {number(high)}"
