"""The ``curriculum`` section of the configuration: one class per strategy, chosen by ``type``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, StrictFloat, StrictInt, Tag, model_validator

from edco_core.config_curriculum_base import BaseCurriculumSection, Needs, UsesScores, share_of
from edco_core.config_rewarded import (
    AdarftSection,
    CuresSection,
    DifficultyFilterSection,
    MoppsSection,
    PclSection,
    ShuffleR1Section,
    SpeedSection,
    VcrlSection,
)
from edco_core.config_section import OWN, Section, for_forms, type_or_own
from edco_core.config_strategies import (
    AnswerComplexitySection,
    CampusSection,
    DumpSection,
    DynamicPplSection,
    EntropyBandSection,
    LateLearnedSection,
    LengthSection,
    LossReweightingSection,
    PerplexitySection,
    SecSection,
    StaticEntropySection,
)
from edco_core.errors import ConfigError

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Samples


class RandomSection(BaseCurriculumSection):
    """A uniform draw without replacement at each interval: the baseline."""

    USES_SCORES: ClassVar[UsesScores] = "never"

    type: Literal["random"] = "random"


class OwnStrategySection(BaseCurriculumSection):
    """Your own strategy: a subclass of ``edco_core.curriculum.Strategy`` (README)."""

    type: str = Field(OWN, description="module:attribute of the class.")
    args: dict[str, Any] = Field(default_factory=dict, description="For it: self.settings.args.")

    @model_validator(mode="after")
    def _keeps_the_contract(self) -> OwnStrategySection:
        # Imports the user's module, and only where there is such a strategy.
        from edco_core.curriculum import Strategy
        from edco_core.own import load_class

        load_class(self.type, Strategy)
        return self


class EdcoSection(BaseCurriculumSection):
    """Highest entropy first, tempered (EDCO; see edco_core/curriculum/edco.py)."""

    type: Literal["edco"] = "edco"
    preset: Literal["paper"] | None = Field(
        None, description="paper: temperature 0, descending order, no outliers skipped."
    )
    temperature: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="0 = the N highest; larger = nearer to random."
    )
    temperature_end: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Temperature of the last interval, in equal steps from the first; null: the "
        "same throughout.",
    )
    skip_top: float = Field(
        0.0, ge=0, lt=1, description="Share of the pool left out as outliers, from the top."
    )
    max_category_share: float | None = Field(
        None, gt=0, le=1, description="Most that one category may have of N; null: no limit."
    )
    random_share: float = Field(
        0.0, ge=0, lt=1, description="Share of N drawn uniformly from those not selected by score."
    )
    order: Literal["shuffled", "descending"] = Field(
        "shuffled", description="Order of training inside an interval."
    )

    PAPER: ClassVar[dict[str, Any]] = {
        "temperature": 0.0,
        "temperature_end": None,
        "skip_top": 0.0,
        "max_category_share": None,
        "random_share": 0.0,
        "order": "descending",
    }

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("preset") == "paper":
            clash = sorted(k for k, v in cls.PAPER.items() if k in values and values[k] != v)
            if clash:
                raise ValueError(
                    f"preset 'paper' decides {', '.join(clash)}; remove the preset or those keys"
                )
            return {**values, **cls.PAPER}
        return values

    @model_validator(mode="after")
    def _an_end_needs_a_way(self) -> EdcoSection:
        if self.temperature_end is not None and self.intervals == 1:
            raise ValueError(
                "temperature_end would be ignored: there is one interval, which has 'temperature'. "
                "Remove it, or give more intervals"
            )
        return self

    def count(self, pool_size: int) -> int:
        num = super().count(pool_size)
        left = pool_size - share_of(self.skip_top, pool_size)
        if num > left:
            raise ConfigError(
                f"curriculum.top_n: {num} samples were asked for, but skip_top {self.skip_top} "
                f"leaves {left} of {pool_size}. Allowed: top_n up to {left}."
            )
        if self.random_share > 0 and share_of(self.random_share, num) == 0:
            raise ConfigError(
                f"curriculum.random_share: {self.random_share} of {num} samples is less than one. "
                f"Allowed: 0, or {math.ceil(1e4 / num) / 1e4:g} and more."
            )
        return num

    def needs(self) -> frozenset[Needs]:
        return self.NEEDS if self.max_category_share is None else frozenset({"categories"})

    def unlike_a_ranking(self) -> str | None:
        """Which setting makes the selection more than the N highest of keys known beforehand."""
        for key in ("skip_top", "max_category_share", "random_share", "temperature_end"):
            if getattr(self, key) != type(self).model_fields[key].default:
                return key
        return None

    def temperature_at(self, interval: int) -> float:
        """The temperature of one interval."""
        if self.temperature_end is None:
            return self.temperature
        done = interval / (self.intervals - 1)
        return self.temperature + (self.temperature_end - self.temperature) * done


_OneRule = (
    Annotated[AdarftSection, Tag("adarft")]
    | Annotated[AnswerComplexitySection, Tag("answer_complexity")]
    | Annotated[CampusSection, Tag("campus")]
    | Annotated[CuresSection, Tag("cures")]
    | Annotated[DifficultyFilterSection, Tag("difficulty_filter")]
    | Annotated[DumpSection, Tag("dump")]
    | Annotated[DynamicPplSection, Tag("dynamic_ppl")]
    | Annotated[EdcoSection, Tag("edco")]
    | Annotated[EntropyBandSection, Tag("entropy_band")]
    | Annotated[LateLearnedSection, Tag("late_learned")]
    | Annotated[LengthSection, Tag("length")]
    | Annotated[LossReweightingSection, Tag("loss_reweighting")]
    | Annotated[MoppsSection, Tag("mopps")]
    | Annotated[PclSection, Tag("pcl")]
    | Annotated[PerplexitySection, Tag("perplexity")]
    | Annotated[RandomSection, Tag("random")]
    | Annotated[SecSection, Tag("sec")]
    | Annotated[ShuffleR1Section, Tag("shuffle_r1")]
    | Annotated[SpeedSection, Tag("speed")]
    | Annotated[StaticEntropySection, Tag("static_entropy")]
    | Annotated[VcrlSection, Tag("vcrl")]
    | Annotated[OwnStrategySection, Tag(OWN)]
)
StageStrategy = Annotated[_OneRule, Discriminator(type_or_own), Field(json_schema_extra=for_forms)]


class Stage(Section):
    """A strategy, and the interval at which the next one takes over."""

    until: StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)] | None = Field(
        None,
        gt=0,
        description="First interval of the next stage: a number, or a share of all intervals "
        "(0.5); null: to the end.",
    )
    strategy: StageStrategy = Field(description="A curriculum section without intervals and top_n.")


class StagesSection(BaseCurriculumSection):
    """Strategies one after another."""

    type: Literal["stages"] = "stages"
    stages: list[Stage] = Field(min_length=1, description="In the order they take their turns.")

    @model_validator(mode="before")
    @classmethod
    def _share_intervals_and_top_n(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("stages"), list):
            return values
        common = {
            key: values.get(key, cls.model_fields[key].default) for key in ("intervals", "top_n")
        }
        stages = []
        for number, stage in enumerate(values["stages"]):
            if isinstance(stage, Mapping) and isinstance(stage.get("strategy"), Mapping):
                strategy = stage["strategy"]
                for key, value in common.items():
                    if strategy.get(key, value) != value:
                        raise ValueError(
                            f"stages.{number}.strategy.{key} would be ignored: all stages have "
                            f"curriculum.{key}. Remove it there"
                        )
                stage = {**stage, "strategy": {**strategy, **common}}
            stages.append(stage)
        return {**values, "stages": stages}

    @model_validator(mode="after")
    def _each_has_intervals(self) -> StagesSection:
        ends = self.ends()
        for number, (first, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if end <= first or end > self.intervals:
                raise ValueError(
                    f"stages.{number}.until: {self.stages[number].until} makes it end before "
                    f"interval {end}, and it begins with interval {first} of {self.intervals}. "
                    f"Allowed: ascending ends up to {self.intervals}, or shares up to 1.0"
                )
        if ends[-1] != self.intervals:
            raise ValueError(
                f"stages: the last one ends before interval {ends[-1]} of {self.intervals}. Leave "
                "out its 'until'"
            )
        return self

    def ends(self) -> list[int]:
        """For each stage the first interval that is no longer its own."""
        return [
            self.intervals
            if stage.until is None
            else round(stage.until * self.intervals)
            if isinstance(stage.until, float)
            else stage.until
            for stage in self.stages
        ]

    def stage_at(self, interval: int) -> int:
        """Number of the stage an interval belongs to."""
        last = len(self.stages) - 1
        return next((n for n, end in enumerate(self.ends()) if interval < end), last)

    def count(self, pool_size: int) -> int:
        counts: list[int] = [part.count(pool_size) for part in self.parts()]
        return counts[0]  # the same of all, and each has checked it

    def with_count(self, num_samples: int) -> StagesSection:
        stages = [
            stage.model_copy(update={"strategy": stage.strategy.with_count(num_samples)})
            for stage in self.stages
        ]
        return self.model_copy(update={"top_n": num_samples, "stages": stages})

    def parts(self) -> list[Any]:
        return [stage.strategy for stage in self.stages]

    def at(self, interval: int) -> Any:
        return self.stages[self.stage_at(interval)].strategy

    def needs(self) -> frozenset[Needs]:
        return frozenset[Needs]().union(*(part.needs() for part in self.parts()))

    def looks_at(self, turns: Sequence[int]) -> set[int]:
        by_stage = [
            [turn for turn in turns if self.stage_at(turn) == number]
            for number in range(len(self.stages))
        ]
        return set[int]().union(
            *(part.looks_at(own) for part, own in zip(self.parts(), by_stage, strict=True))
        )


def refuse_unmet_needs(curriculum: Any, scoring: Any, training: Any) -> None:
    """Raise ValueError where a strategy could not work with what the run has."""
    for part in curriculum.parts():
        # Only the user knows what scores of their own are.
        is_own = ":" in scoring.type
        if part.SCORERS is not None and scoring.type not in part.SCORERS and not is_own:
            raise ValueError(
                f"curriculum.type: {part.type} is made for other scores than scoring.type: "
                f"{scoring.type}. Allowed: {', '.join(sorted(part.SCORERS))}"
            )
        if "rewards" in part.needs() and training.type != "grpo":
            raise ValueError(
                f"curriculum.type: {part.type} learns from rewarded answers, and "
                f"training.type: {training.type} has none. Use training.type: grpo, or another "
                "curriculum"
            )


def check_categories(curriculum: Any, samples: Samples) -> None:
    """Raise ConfigError where a strategy needs categories and the pool has none or too few."""
    for part in curriculum.parts():
        if "categories" in part.needs():
            _check_categories(part, samples)


def _check_categories(part: Any, samples: Samples) -> None:
    codes, names = samples.categories.codes, samples.categories.names
    num_without = int((codes < 0).sum())
    if num_without:
        raise ConfigError(
            f"curriculum.type: {part.type} needs a category for every sample, and {num_without} of "
            f"{len(codes)} have none. Name the column that holds it with data.columns.category, or "
            "use another curriculum."
        )
    share = getattr(part, "max_category_share", None)
    num_categories = len(names)
    if share is not None and share * num_categories < 1:
        raise ConfigError(
            f"curriculum.max_category_share: {share} of a curriculum for each of the pool's "
            f"{num_categories} categories is less than a curriculum. Allowed: "
            f"{math.ceil(1e4 / num_categories) / 1e4:g} to 1."
        )


CurriculumSection = Annotated[
    _OneRule | Annotated[StagesSection, Tag("stages")],
    Discriminator(type_or_own),
    Field(json_schema_extra=for_forms),
]
