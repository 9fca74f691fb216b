"""The section ``curriculum.guard``: what is watched in a run, and what is done about it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from edco_core.config_section import Section
from edco_core.errors import ConfigError

OnAlarm = Literal["warn", "temper", "fall_back_random", "stop"]


class GuardSection(Section):
    """Alarms on a run (edco_core/guard.py); a limit of null switches its alarm off."""

    control_share: float = Field(
        0.02,
        gt=0,
        le=0.5,
        description="Share of the pool that is scored and never selected, to compare with.",
    )
    on_alarm: OnAlarm = Field(
        "warn",
        description="temper: edco's temperature is doubled; fall_back_random: draw at random from "
        "then on; stop: the run stops, and resuming it acknowledges the alarm.",
    )
    accuracy_errors: float | None = Field(
        3.0, gt=0, description="Most that the metric may be below its best, in standard errors."
    )
    stuck_jaccard: float | None = Field(
        0.95,
        gt=0,
        le=1,
        description="Most that a curriculum may have in common with the one before, where next to "
        "nobody in it is new.",
    )
    least_coverage: float | None = Field(
        0.5,
        gt=0,
        le=1,
        description="Least share of the pool to be selected at some time, as a part of what random "
        "draws would have reached.",
    )
    coverage_after: int = Field(4, ge=1, description="Intervals before that is looked at.")
    category_gain: float | None = Field(
        0.4,
        gt=0,
        lt=1,
        description="Most that a category may have in the curriculum of what the others have in "
        "the pool, beside its own share.",
    )
    entropy_share: float | None = Field(
        0.1,
        gt=0,
        lt=1,
        description="Least mean entropy of the pool, as a part of the first interval's.",
    )
    control_progress: float | None = Field(
        0.25,
        gt=0,
        le=1,
        description="Least that scores of the control samples may have fallen, as a part of how "
        "far those of trained samples like them have.",
    )

    def num_control(self, pool_size: int) -> int:
        """Samples that are kept apart: at least one."""
        return max(1, round(self.control_share * pool_size))


def refuse_guard(curriculum: Any, scoring: Any) -> None:
    """Raise ValueError for a guard that would be ignored, or could not do what it says."""
    for part in curriculum.parts():
        if part is not curriculum and part.guard is not None:
            raise ValueError(
                "curriculum.stages: the guard of a single stage would be ignored. Give "
                "curriculum.guard, which watches all of them"
            )
    guard = curriculum.guard
    if guard is None:
        return
    if scoring.rescore.policy == "selective":
        raise ValueError(
            "curriculum.guard does not go with scoring.rescore.policy: selective, which would not "
            "score the control samples. Use policy: all, or remove the guard"
        )
    if guard.on_alarm == "temper" and curriculum.type != "edco":
        others = "stop, warn" if curriculum.type == "random" else "fall_back_random, stop, warn"
        raise ValueError(
            f"curriculum.guard.on_alarm: temper needs a temperature, and {curriculum.type} has "
            f"none that makes it random. Allowed: {others}; or curriculum.type: edco. {_COMPARED}"
        )
    if guard.on_alarm == "fall_back_random" and curriculum.type == "random":
        raise ValueError(
            "curriculum.guard.on_alarm: fall_back_random would change nothing, as curriculum.type "
            f"is random. Allowed: stop, warn. {_COMPARED}"
        )


_COMPARED = "In a comparison each strategy may have a guard of its own"


def check_room(curriculum: Any, pool_size: int) -> None:
    """Raise ConfigError where the control leaves too few samples to select from."""
    if curriculum.guard is None:
        return
    num_samples = curriculum.count(pool_size)
    left = pool_size - curriculum.guard.num_control(pool_size)
    try:
        if num_samples <= left:
            curriculum.with_count(num_samples).count(left)
            return
    except ConfigError as error:
        raise ConfigError(f"{error} (curriculum.guard keeps {pool_size - left} apart.)") from error
    raise ConfigError(
        f"curriculum.top_n: {num_samples} samples were asked for, but curriculum.guard keeps "
        f"{pool_size - left} of {pool_size} apart. Allowed: top_n up to {left}."
    )
