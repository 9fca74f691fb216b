"""A curriculum under its guard: who is kept apart, and what alarms have made of the rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config import EdcoSection, RandomSection
from edco_core.curriculum.base import rank_descending
from edco_core.curriculum.evidence import Evidence
from edco_core.records import STAGES, Alarm, Selection

if TYPE_CHECKING:
    from edco_core.curriculum.base import Strategy
    from edco_core.records import Floats, Ints, RolloutGroups

FALLEN_BACK = "guard_random"
"""The reason of selections after a guard has fallen back to the random draw."""


def control_of(guard: Any, pool_size: int, seed: int) -> Ints:
    """Ordinals of the samples that are never selected, ascending: the same for the whole run."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0, len(STAGES)]))
    drawn = rng.permutation(pool_size)[: guard.num_control(pool_size)]
    return np.sort(drawn).astype(np.int64)


def rule_after(section: Any, alarms: Sequence[Alarm]) -> Any:
    """The ``curriculum`` section that is in force after these alarms, each of an earlier interval.

    ``temper`` doubles the temperature, or makes it 1 where it was 0, once for each interval with an
    alarm; ``fall_back_random`` makes it the random draw.
    """
    acted = {alarm.interval: alarm.action for alarm in alarms}
    if "fall_back_random" in acted.values():
        return RandomSection(intervals=section.intervals, top_n=section.top_n, guard=section.guard)
    for _ in range(list(acted.values()).count("temper")):
        assert isinstance(section, EdcoSection)  # the configuration was refused otherwise
        end = section.temperature_end
        changes: dict[str, Any] = {"temperature": _hotter(section.temperature), "preset": None}
        if end is not None:
            changes["temperature_end"] = _hotter(end)
        section = section.model_copy(update=changes)
    return section


def _hotter(temperature: float) -> float:
    return 2 * temperature if temperature > 0 else 1.0


def select_guarded(
    build: Callable[[Any], Strategy[Any]],
    section: Any,
    evidence: Evidence,
    num_samples: int,
    rng: np.random.Generator,
    *,
    seed: int,
    alarms: Sequence[Alarm],
) -> Selection:
    """The next curriculum of a section with a guard; ``build`` makes the strategy of a section.

    The strategy sees the pool without the control.  Ranks stay those of the whole pool.
    """
    earlier = [alarm for alarm in alarms if alarm.interval < evidence.interval]
    rule = rule_after(section, earlier)
    strategy = build(rule)
    scores = evidence.scores
    control = control_of(section.guard, len(scores), seed)
    kept = np.setdiff1d(np.arange(len(scores), dtype=np.int64), control, assume_unique=True)
    chosen = strategy.select(_WithoutControl(evidence, kept), num_samples, rng)
    ordinals = kept[chosen.ordinals]
    _, ranks = rank_descending(scores)
    facts = {**chosen.facts, "num_control": len(control)}
    reason = chosen.reason
    if rule is not section:
        last = [alarm for alarm in earlier if alarm.action in ("temper", "fall_back_random")][-1]
        facts["guard"] = f"{last.action} since the alarm '{last.alarm}' of interval {last.interval}"
        if last.action == "fall_back_random":
            reason = FALLEN_BACK
    beliefs = chosen.beliefs
    if beliefs is not None:
        beliefs = dataclasses.replace(beliefs, ordinals=kept[beliefs.ordinals])
    return dataclasses.replace(
        chosen, ordinals=ordinals, ranks=ranks[ordinals], facts=facts, reason=reason,
        beliefs=beliefs,
    )  # fmt: skip


class _WithoutControl(Evidence):
    """What a strategy may know of the pool without its control, as if that were the pool."""

    def __init__(self, whole: Evidence, kept: Ints) -> None:
        self._whole = whole
        self._kept = kept
        self.interval = whole.interval
        self.num_intervals = whole.num_intervals
        self.scorer = whole.scorer
        self.scores = whole.scores[kept]
        self.state = whole.state
        self.samples = whole.samples.only(kept)

    def scores_at(self, interval: int) -> Floats:
        return self._whole.scores_at(interval)[self._kept]

    def selected_at(self, interval: int) -> Ints:
        return self._places(self._whole.selected_at(interval))

    def rollouts_at(self, interval: int) -> RolloutGroups | None:
        groups = self._whole.rollouts_at(interval)
        if groups is None:
            return None
        return dataclasses.replace(groups, ordinals=self._places(groups.ordinals))

    def _places(self, ordinals: Ints) -> Ints:
        """Of samples that are not of the control."""
        return np.searchsorted(self._kept, ordinals).astype(np.int64)
