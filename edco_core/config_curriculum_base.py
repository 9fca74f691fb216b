"""What the ``curriculum`` sections of all strategies have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, StrictFloat, StrictInt, field_validator

from edco_core.config_guard import GuardSection
from edco_core.config_section import Section
from edco_core.errors import ConfigError

Needs = Literal["rewards", "categories"]
UsesScores = Literal["never", "first", "always"]

ENTROPIES = frozenset({"prefix_entropy", "full_entropy", "reference_prefix_entropy"})
LOSSES = frozenset({"loss", "perplexity"})


def share_of(share: float, num: int) -> int:
    """So many of ``num``, rounded down; 0.29 of 100 are 29, whatever floating point makes of it."""
    return int(share * num + 1e-9)


class BaseCurriculumSection(Section):
    NEEDS: ClassVar[frozenset[Needs]] = frozenset()
    """What a run must have: answers that are rewarded (training.type: grpo), samples with
    categories."""
    SCORERS: ClassVar[frozenset[str] | None] = None
    """The scorers whose scores it is made for; None: all."""
    USES_SCORES: ClassVar[UsesScores] = "always"
    """Which intervals' scores it looks at (always: that of its turn), and so what a comparison at
    equal cost charges for."""

    SAMPLES_ANSWERS: ClassVar[bool] = False
    """Whether it also decides how a step of reinforcement learning samples its answers."""

    intervals: int = Field(8, ge=1, le=10_000, description="Turns of the loop.")
    top_n: StrictFloat | StrictInt = Field(0.25, description="Count, or fraction of the pool.")
    guard: GuardSection | None = Field(
        None, description="Watches the run: a control, alarms, and what they do. null: nothing."
    )

    @field_validator("top_n")
    @classmethod
    def _count_or_fraction(cls, value: int | float) -> int | float:
        if isinstance(value, float) and not 0 < value <= 1:
            raise ValueError("use a count such as 800, or a fraction of the pool in (0, 1]")
        if isinstance(value, int) and value < 1:
            raise ValueError("use a count of at least 1, or a fraction of the pool in (0, 1]")
        return value

    def count(self, pool_size: int) -> int:
        """N, the samples per interval on a pool of this size; ConfigError when it does not fit."""
        if isinstance(self.top_n, float):
            return max(1, round(self.top_n * pool_size))
        if self.top_n > pool_size:
            raise ConfigError(
                f"curriculum.top_n: {self.top_n} samples were asked for, the pool has {pool_size}. "
                f"Allowed: a count from 1 to {pool_size}, or a fraction in (0, 1]."
            )
        return self.top_n

    def with_count(self, num_samples: int) -> Self:
        """The same with another ``top_n``."""
        return self.model_copy(update={"top_n": num_samples})

    def parts(self) -> list[Any]:
        """The sections of all strategies it is made of: itself, unless it is made of others."""
        return [self]

    def at(self, interval: int) -> Any:
        """The section of the one strategy that has its turn in an interval."""
        return self

    def needs(self) -> frozenset[Needs]:
        """``NEEDS``, and what the settings add to it."""
        return self.NEEDS

    def looks_at(self, turns: Sequence[int]) -> set[int]:
        """The intervals whose scores it looks at, where these intervals are its turn."""
        first = {0} if turns else set()
        return {"never": set(), "first": first, "always": set(turns)}[self.USES_SCORES]
