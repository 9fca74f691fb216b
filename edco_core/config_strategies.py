"""The ``curriculum`` sections of strategies by texts, scores, their history, or categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from edco_core.config_curriculum_base import (
    ENTROPIES,
    LOSSES,
    BaseCurriculumSection,
    Needs,
    UsesScores,
)
from edco_core.errors import ConfigError

Perspective = Literal["length", "mtld", "loss", "learned"]


class StaticOrderSection(BaseCurriculumSection):
    """One order for the whole run; each interval trains on its next stretch."""

    type: str
    order: Literal["easy_first", "hard_first"] = Field(
        "easy_first", description="Where the order begins; at its end it begins again."
    )


class LengthSection(StaticOrderSection):
    """The order of the prompts' lengths."""

    USES_SCORES: ClassVar[UsesScores] = "never"

    type: Literal["length"] = "length"


class AnswerComplexitySection(StaticOrderSection):
    """The order of how many different words the reference answers have."""

    USES_SCORES: ClassVar[UsesScores] = "never"

    type: Literal["answer_complexity"] = "answer_complexity"


class PerplexitySection(StaticOrderSection):
    """The order of the losses before training."""

    SCORERS: ClassVar[frozenset[str] | None] = LOSSES
    USES_SCORES: ClassVar[UsesScores] = "first"

    type: Literal["perplexity"] = "perplexity"


class StaticEntropySection(StaticOrderSection):
    """The order of the entropies before training."""

    SCORERS: ClassVar[frozenset[str] | None] = ENTROPIES
    USES_SCORES: ClassVar[UsesScores] = "first"

    type: Literal["static_entropy"] = "static_entropy"


class DynamicPplSection(BaseCurriculumSection):
    """The highest losses under the current model."""

    SCORERS: ClassVar[frozenset[str] | None] = LOSSES

    type: Literal["dynamic_ppl"] = "dynamic_ppl"


class EntropyBandSection(BaseCurriculumSection):
    """A uniform draw of samples whose scores are neither the lowest nor the highest."""

    SCORERS: ClassVar[frozenset[str] | None] = ENTROPIES

    type: Literal["entropy_band"] = "entropy_band"
    low: float = Field(0.5, ge=0, lt=1, description="Share of the pool below the band.")
    high: float = Field(0.95, gt=0, le=1, description="Share of the pool up to its upper end.")

    @model_validator(mode="after")
    def _has_room(self) -> EntropyBandSection:
        if self.low >= self.high:
            raise ValueError(f"low: {self.low} came, and high: {self.high}. Allowed: low < high")
        return self

    def places(self, pool_size: int) -> tuple[int, int]:
        """First place of the band and the first behind it, from the lowest score, 0, on."""
        return round(self.low * pool_size), max(1, round(self.high * pool_size))

    def count(self, pool_size: int) -> int:
        num, (first, end) = super().count(pool_size), self.places(pool_size)
        if num > end - first:
            raise ConfigError(
                f"curriculum.top_n: {num} samples were asked for, but low {self.low} and high "
                f"{self.high} leave {end - first} of {pool_size}. Allowed: top_n up to "
                f"{end - first}, or a wider band."
            )
        return num


class LossReweightingSection(BaseCurriculumSection):
    """A draw whose weights follow the losses under the current model."""

    SCORERS: ClassVar[frozenset[str] | None] = frozenset({"loss"})

    type: Literal["loss_reweighting"] = "loss_reweighting"
    weighting: Literal["linupper", "quadratic", "extremes"] = Field(
        "linupper",
        description="linupper: fewer of low loss; quadratic: of middling loss; extremes: of both "
        "ends.",
    )
    temperature: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="r: small = sharper, large = uniform."
    )


class LateLearnedSection(BaseCurriculumSection):
    """A draw in which samples that are learned late weigh more."""

    type: Literal["late_learned"] = "late_learned"
    learned_quantile: float = Field(
        0.5, gt=0, lt=1, description="Learned: a score at most this quantile of the first ones."
    )
    upsampling: float = Field(
        2.0,
        gt=1,
        allow_inf_nan=False,
        description="Weight of a sample not learned yet, against 1 of one learned from the start.",
    )

    def looks_at(self, turns: Sequence[int]) -> set[int]:
        return set(range(max(turns, default=-1) + 1))  # when it was learned


class CampusSection(BaseCurriculumSection):
    """Several orders from easy to hard; each interval trains on the one that suits it best."""

    SCORERS: ClassVar[frozenset[str] | None] = LOSSES

    type: Literal["campus"] = "campus"
    perspectives: list[Perspective] = Field(
        ["length", "mtld", "loss", "learned"],
        min_length=1,
        description="The orders: length, mtld (lexical diversity), loss, learned (our reading).",
    )
    pacing: float = Field(
        2.0, gt=1, allow_inf_nan=False, description="p: growth of the competence per interval."
    )
    start: float = Field(0.01, gt=0, le=1, description="s(1): share of the pool first opened.")

    @field_validator("perspectives")
    @classmethod
    def _each_once(cls, value: list[Perspective]) -> list[Perspective]:
        twice = sorted({each for each in value if value.count(each) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} came twice; name each perspective once")
        return value

    @model_validator(mode="after")
    def _more_is_open_from_interval_to_interval(self) -> CampusSection:
        if self.intervals > 1 and self.competence(2, self.intervals) <= self.start:
            raise ValueError(
                f"start: {self.start} of the pool is open at first, and no more at interval 1 "
                f"under pacing {self.pacing} and {self.intervals} intervals. Give a smaller start, "
                "a larger pacing or fewer intervals"
            )
        return self

    def competence(self, t: int, num_intervals: int) -> float:
        """s(t), the share of an order that is open at interval t - 1; s(0) is 0."""
        if t <= 1:
            return self.start if t == 1 else 0.0
        return min(1.0, self.pacing ** (t - num_intervals) + self.start * (self.pacing - 1))


class BanditSection(BaseCurriculumSection):
    """Categories as arms: more of those from whose answers there is more to learn."""

    NEEDS: ClassVar[frozenset[Needs]] = frozenset({"rewards", "categories"})
    USES_SCORES: ClassVar[UsesScores] = "never"


class SecSection(BanditSection):
    """Arms by a moving average of absolute advantages (SEC)."""

    type: Literal["sec"] = "sec"
    learning_rate: float = Field(0.5, gt=0, le=1, description="alpha of the moving average.")
    temperature: float = Field(0.4, gt=0, allow_inf_nan=False, description="tau of the softmax.")


class DumpSection(BanditSection):
    """Arms by the upper confidence bound of absolute advantages (DUMP)."""

    type: Literal["dump"] = "dump"
    window: Annotated[int, Field(ge=1, le=100_000, description="Newest answers that count.")] = 300
    temperature: float = Field(0.1, gt=0, allow_inf_nan=False, description="tau of the softmax.")
