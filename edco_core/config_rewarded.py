"""The ``curriculum`` sections of strategies that learn from rewards (``training.type: grpo``)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from edco_core.config_curriculum_base import BaseCurriculumSection, Needs, UsesScores


class RewardedSection(BaseCurriculumSection):
    NEEDS: ClassVar[frozenset[Needs]] = frozenset({"rewards"})
    USES_SCORES: ClassVar[UsesScores] = "never"


class BelievingSection(RewardedSection):
    """Chances to answer correctly as Beta distributions, one for each sample."""

    prior_correct: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="alpha where nothing is known."
    )
    prior_wrong: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="beta where nothing is known."
    )
    discount: float = Field(
        1.0, gt=0, le=1, description="Weight that earlier answers keep from interval to interval."
    )


class CuresSection(BelievingSection):
    """Prompts, and answers to each, by how much their gradients vary (CurES)."""

    SAMPLES_ANSWERS: ClassVar[bool] = True

    type: Literal["cures"] = "cures"
    temperature: float = Field(
        0.2, gt=0, allow_inf_nan=False, description="tau of the draw of prompts; large = uniform."
    )
    cold_start: int = Field(
        4, ge=1, le=1024,
        description="First answers to a prompt of which nothing is known; num_generations at most.",
    )  # fmt: skip
    gradient_terms: bool = Field(
        False,
        description="Measure the gradient of each answer, a backward pass each, and share out "
        "answers by that, too; false: by the chance to answer correctly alone.",
    )


class MoppsSection(BelievingSection):
    """Chances drawn from beliefs, those nearest to a target selected (MoPPS)."""

    type: Literal["mopps"] = "mopps"
    target: float = Field(0.5, ge=0, le=1, description="Chance to answer correctly aimed at.")
    discount: float = Field(
        0.5, gt=0, le=1, description="Weight that earlier answers keep from interval to interval."
    )


class RememberingSection(RewardedSection):
    """What the last intervals told of each sample."""

    memory: int = Field(
        3, ge=1, le=10_000, description="Intervals after which a sample's answers count no more."
    )


class PclSection(RememberingSection):
    """Of some candidates those whose predicted value is nearest to a half (PCL)."""

    USES_SCORES: ClassVar[UsesScores] = "always"

    type: Literal["pcl"] = "pcl"
    candidates: int = Field(4, ge=1, le=1000, description="k: drawn for each sample selected.")
    target: float = Field(0.5, ge=0, le=1, description="Predicted value aimed at.")


class VcrlSection(RememberingSection):
    """The highest variance of rewards inside a group (VCRL)."""

    type: Literal["vcrl"] = "vcrl"


class AdarftSection(RewardedSection):
    """The nearest to a target difficulty that follows the mean reward (AdaRFT)."""

    USES_SCORES: ClassVar[UsesScores] = "first"

    type: Literal["adarft"] = "adarft"
    start: float = Field(0.0, ge=0, le=100, description="First target: 0 = the easiest.")
    step_size: float = Field(50.0, gt=0, allow_inf_nan=False, description="eta.")
    sensitivity: float = Field(2.0, gt=0, allow_inf_nan=False, description="alpha.")
    target_reward: float = Field(
        0.5, allow_inf_nan=False, description="beta: the mean reward at which the target rests."
    )


class BandSection(RememberingSection):
    """A uniform draw of samples whose pass rate lies inside a band, or is not known."""

    SAMPLES_ANSWERS: ClassVar[bool] = True

    low: float = Field(0.0, ge=0, lt=1, description="Pass rates above this are inside.")
    high: float = Field(1.0, gt=0, le=1, description="Pass rates below this are inside.")

    @model_validator(mode="after")
    def _has_room(self) -> BandSection:
        if self.low >= self.high:
            raise ValueError(f"low: {self.low} came, and high: {self.high}. Allowed: low < high")
        return self


class DifficultyFilterSection(BandSection):
    """Groups outside a band of pass rates are passed over (DAPO, online difficulty filtering)."""

    type: Literal["difficulty_filter"] = "difficulty_filter"
    max_redraws: int = Field(
        3, ge=1, le=100, description="How often a step may ask anew before it takes what there is."
    )


class SpeedSection(BandSection):
    """A few answers first, the rest only where those differ (SPEED-RL)."""

    type: Literal["speed"] = "speed"
    screening_answers: int = Field(4, ge=2, le=1024, description="The few.")
    max_redraws: int = Field(
        3, ge=1, le=100, description="How often a step may screen anew before it takes what it has."
    )


class ShuffleR1Section(BandSection):
    """The answers that differ most, in pairs, and strong pairs more often (Shuffle-R1)."""

    type: Literal["shuffle_r1"] = "shuffle_r1"
    keep_share: float = Field(
        0.5, gt=0, le=1, description="Share of a prompt's answers that is trained on."
    )
