"""From a comparison to its runs: what each may do for its budget, and what it is called.

A run's id is made of its label, its seed and a hash of all that its outcome depends on, so the same
comparison finds its runs again, and another one never takes them for its own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config import Config, ModelSection, parse_config
from edco_core.config_compare import Arm, Comparison
from edco_core.config_curriculum import check_categories
from edco_core.config_guard import check_room
from edco_core.curriculum.evidence import samples_of
from edco_core.errors import ConfigError, InputError
from flows.prepare import Inputs, complete, load_inputs

if TYPE_CHECKING:
    from edco_core.training import Plan


class NotMeasuredError(InputError):
    """What a strategy costs is not known yet, so that a budget in seconds cannot be planned."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of the device, as measured beforehand."""

    step: float
    """An optimizer step."""
    interval: float
    """What training an interval takes beside its steps."""
    scoring: float
    """Scoring the pool once."""


_LEFT_OVER = 0.03
"""More of a budget than this is not left over for the sake of the samples per interval."""

Measure = Callable[[Config, Inputs], Cost]


@dataclass(frozen=True, slots=True)
class PlannedArm:
    """A strategy with what its runs come to."""

    label: str
    config: Config
    """Of its runs, but for the seed and the name of a run they start from."""
    model: ModelSection
    """As its runs get it, who find the run they start from by its name, and keep whose it was."""
    plan: Plan
    cost: Cost | None
    """None: the budget is in steps."""
    wanted_samples: int
    """Samples per interval that were asked for; the plan's use the budget up."""

    @property
    def strategy(self) -> str:
        return self.config.curriculum.type

    @property
    def planned_seconds(self) -> float | None:
        """Of training, and of the scoring it is charged for."""
        if self.cost is None:
            return None
        intervals = self.plan.num_intervals
        return (
            self.plan.total_steps * self.cost.step
            + intervals * self.cost.interval
            + len(paid_scorings(self.config, intervals)) * self.cost.scoring
        )


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One strategy with one seed."""

    run_id: str
    label: str
    seed: int
    config: Config


@dataclass(frozen=True, slots=True)
class Planned:
    """All runs of a comparison, seed by seed."""

    comparison: Comparison
    arms: tuple[PlannedArm, ...]
    runs: tuple[PlannedRun, ...]
    metric: str


def plan_comparison(comparison: Comparison, store_url: str, measure: Measure) -> Planned:
    """Check the configuration of every strategy, and plan its runs; raises InputError.

    ``measure`` is asked only where the budget is in seconds.
    """
    first = comparison.seeds[0]
    arms = [
        _planned_arm(arm, load_inputs(arm.config_of(first), store_url), comparison, measure)
        for arm in comparison.arms
    ]
    lengths = {arm.plan.total_steps for arm in arms}
    if comparison.budget is None and len(lengths) > 1:
        told = ", ".join(f"{arm.label} {arm.plan.total_steps}" for arm in arms)
        raise ConfigError(
            f"compare: the strategies do not take the same number of steps ({told}). Give them "
            f"one budget, e.g. compare: {{budget: {{steps: {min(lengths)}}}}}."
        )
    pools = _pools(comparison, store_url)
    runs = [
        _planned_run(comparison.name, arm, seed, pools[seed])
        for seed in comparison.seeds
        for arm in arms
    ]
    evaluation = arms[0].config.evaluation
    assert evaluation is not None  # data.eval is needed
    return Planned(comparison, tuple(arms), tuple(runs), evaluation.metric.type)


def check_runs(planned: Planned, store_url: str) -> None:
    """Check what a plan does without: model, and how answers are sampled.  Raises InputError."""
    for arm in planned.arms:
        run = next(each for each in planned.runs if each.label == arm.label)
        try:
            complete(load_inputs(run.config, store_url))
        except InputError as error:
            raise type(error)(f"compare: {arm.label}: {error}") from error


def _pools(comparison: Comparison, store_url: str) -> dict[int, Inputs]:
    """The data of each seed, which is the same for all strategies; raises InputError.

    Pools of unlike sizes would be unlike budgets.
    """
    arm = comparison.arms[0]
    seeds = comparison.seeds if comparison.has_pools else comparison.seeds[:1]
    pools = {seed: load_inputs(arm.config_of(seed), store_url) for seed in seeds}
    sizes = {seed: len(inputs.pool) for seed, inputs in pools.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"seed {seed}: {size}" for seed, size in sizes.items())
        raise ConfigError(
            f"data.train: the pools of the seeds have different numbers of samples ({told}). "
            "Make them equally large."
        )
    for each, inputs in itertools.product(comparison.arms, pools.values()):
        check_categories(each.config.curriculum, samples_of(inputs.pool))
    return {seed: pools[seed] if comparison.has_pools else pools[seeds[0]]
            for seed in comparison.seeds}  # fmt: skip


def paid_scorings(config: Config, num_intervals: int) -> set[int]:
    """The intervals whose scoring a strategy pays for: those whose scores it looks at.

    The loop scores the pool at every interval for the ledger's sake, whoever looks at it.
    """
    curriculum = config.curriculum.model_copy(update={"intervals": num_intervals})
    looked_at: set[int] = curriculum.looks_at(range(num_intervals))
    return looked_at


def _planned_arm(arm: Arm, inputs: Inputs, comparison: Comparison, measure: Measure) -> PlannedArm:
    from edco_core.training import make_plan  # torch and TRL: seconds

    config, size = inputs.config, len(inputs.pool)
    model = config.model if inputs.parent is None else arm.config.model
    num_samples = config.curriculum.count(size)
    wanted, num_intervals, cost = num_samples, config.curriculum.intervals, None

    def plan(intervals: int, samples: int) -> Plan:
        return make_plan(config.training, num_intervals=intervals, samples_per_interval=samples)

    if (budget := comparison.budget) is not None:
        if budget.seconds is not None:
            cost = measure(config, inputs)

        def spent(intervals: int, samples: int) -> float:
            planned = plan(intervals, samples)
            if cost is None:
                return planned.total_steps
            with_cost = PlannedArm(arm.label, config, model, planned, cost, samples)
            return with_cost.planned_seconds or 0.0

        limit = budget.seconds or float(budget.steps or 0)
        room = _room(config.curriculum, size)
        num_intervals, num_samples = fit(spent, limit, num_samples, room, arm.label)
    values = config.model_dump(mode="json")
    values["curriculum"] |= {"intervals": num_intervals, "top_n": num_samples}
    for stage in values["curriculum"].get("stages", []):  # which have the same
        del stage["strategy"]["intervals"], stage["strategy"]["top_n"]
    fitted = parse_config(values, f"compare: {arm.label}")
    fitted.curriculum.count(size)
    check_room(fitted.curriculum, size)
    return PlannedArm(arm.label, fitted, model, plan(num_intervals, num_samples), cost, wanted)


def _room(curriculum: Any, pool_size: int) -> int:
    """The most samples per interval that the strategy can select beside its guard's control."""
    low, high = 0, pool_size + 1
    while high - low > 1:
        middle = (low + high) // 2
        asked = curriculum.with_count(middle)
        try:
            asked.count(pool_size)
            check_room(asked, pool_size)
            low = middle
        except ConfigError:
            high = middle
    return low


def fit(
    spent: Callable[[int, int], float], limit: float, num_samples: int, pool_size: int, label: str
) -> tuple[int, int]:
    """Intervals, and samples in each, that use a budget up.

    Of the ways that leave hardly more of it over than they have to, the one with samples per
    interval nearest to ``num_samples``, by their ratio: an interval takes whole steps, so the
    nearest of all could leave half over.  ``spent`` grows with both.  Raises ConfigError where the
    budget pays for no interval.
    """
    if spent(1, 1) > limit:
        raise ConfigError(
            f"compare.budget: {limit:g} pays for no interval of {label}, which needs at least "
            f"{spent(1, 1):g}. Give more."
        )

    def most_samples(num_intervals: int) -> int:
        return _last(lambda samples: spent(num_intervals, samples) <= limit, pool_size)

    def most_intervals(samples: int) -> int:
        return _last(lambda num_intervals: spent(num_intervals, samples) <= limit)

    about = np.unique(np.geomspace(max(1, num_samples / 2), num_samples * 2, 64).round())
    asked = {min(int(each), pool_size) for each in about} | {num_samples, 1}
    paid = set(map(most_intervals, asked))
    near = {k + more for k in paid for more in (0, 1)} - {0}
    found = [(k, n) for k in sorted(near) if (n := most_samples(k))]
    # A pool trained on as a whole leaves some of the budget over.
    ways = [way for way in found if way[1] < pool_size] or found[-1:]
    enough = (1 - _LEFT_OVER) * max(spent(*way) for way in ways)
    return min(
        (way for way in ways if spent(*way) >= enough),
        key=lambda way: (abs(math.log(way[1] / num_samples)), -spent(*way)),
    )


def _last(is_paid: Callable[[int], bool], end: int | None = None) -> int:
    """The largest number, up to ``end``, that is paid for, as all below it are; 0: none."""
    low, high = 0, 1
    while end is None and is_paid(high):
        low, high = high, 2 * high
    if end is not None:
        high = end + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_paid(middle) else (low, middle)
    return low


def _planned_run(experiment: str, arm: PlannedArm, seed: int, inputs: Inputs) -> PlannedRun:
    data = [inputs.pool.fingerprint, inputs.eval_pool.fingerprint if inputs.eval_pool else None]
    values = arm.config.model_dump(mode="json")
    values["run"]["seed"] = seed
    values["data"]["train"] = inputs.config.data.train
    depends_on = {
        **{key: value for key, value in values.items() if key not in ("run", "store", "data")},
        "experiment": experiment,
        "seed": seed,
        "data": data,
    }
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:8]
    run_id = f"{arm.config.run.name[:50]}-{arm.label}-s{seed}-{digest}"
    values["model"] = arm.model.model_dump(mode="json")
    return PlannedRun(run_id, arm.label, seed, parse_config(values))
