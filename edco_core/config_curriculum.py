"""The ``curriculum`` section of the configuration: one class per strategy, chosen by ``type``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    Discriminator,
    Field,
    StrictFloat,
    StrictInt,
    Tag,
    field_validator,
    model_validator,
)

from edco_core.config_section import OWN, Section, for_forms, type_or_own
from edco_core.errors import ConfigError

if TYPE_CHECKING:
    from edco_core.records import Pool


Needs = Literal["rewards", "categories"]


class BaseCurriculumSection(Section):
    NEEDS: ClassVar[frozenset[Needs]] = frozenset()
    """What a run must have: answers that are rewarded (training.type: grpo), samples with
    categories."""
    SCORERS: ClassVar[frozenset[str] | None] = None
    """The scorers whose scores it is made for; None: all."""
    USES_SCORES: ClassVar[Literal["never", "first", "always"]] = "always"
    """Which intervals' scores it looks at, and so what a comparison at equal cost charges for."""

    intervals: int = Field(8, ge=1, le=10_000, description="Turns of the loop.")
    top_n: StrictFloat | StrictInt = Field(0.25, description="Count, or fraction of the pool.")

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


class RandomSection(BaseCurriculumSection):
    """A uniform draw without replacement at each interval: the baseline."""

    USES_SCORES: ClassVar[Literal["never", "first", "always"]] = "never"

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
    skip_top: float = Field(
        0.0, ge=0, lt=1, description="Share of the pool left out as outliers, from the top."
    )
    order: Literal["shuffled", "descending"] = Field(
        "shuffled", description="Order of training inside an interval."
    )

    PAPER: ClassVar[dict[str, Any]] = {"temperature": 0.0, "skip_top": 0.0, "order": "descending"}

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

    def count(self, pool_size: int) -> int:
        num = super().count(pool_size)
        left = pool_size - int(self.skip_top * pool_size)
        if num > left:
            raise ConfigError(
                f"curriculum.top_n: {num} samples were asked for, but skip_top {self.skip_top} "
                f"leaves {left} of {pool_size}. Allowed: top_n up to {left}."
            )
        return num


def refuse_unmet_needs(curriculum: Any, scoring: Any, training: Any) -> None:
    """Raise ValueError where a strategy could not work with what the run has."""
    if curriculum.SCORERS is not None and scoring.type not in curriculum.SCORERS:
        raise ValueError(
            f"curriculum.type: {curriculum.type} is made for other scores than scoring.type: "
            f"{scoring.type}. Allowed: {', '.join(sorted(curriculum.SCORERS))}"
        )
    if "rewards" in curriculum.NEEDS and training.type != "grpo":
        raise ValueError(
            f"curriculum.type: {curriculum.type} learns from rewarded answers, and "
            f"training.type: {training.type} has none. Use training.type: grpo, or another "
            "curriculum"
        )


def check_categories(curriculum: Any, pool: Pool) -> None:
    """Raise ConfigError where a strategy needs categories and the pool has none."""
    if "categories" not in curriculum.NEEDS:
        return
    if pool.table.column("category").null_count:
        raise ConfigError(
            f"curriculum.type: {curriculum.type} needs a category for every sample, and "
            f"{pool.table.column('category').null_count} of {len(pool)} have none. Name the column "
            "that holds it with data.columns.category, or use another curriculum."
        )


CurriculumSection = Annotated[
    Annotated[EdcoSection, Tag("edco")]
    | Annotated[RandomSection, Tag("random")]
    | Annotated[OwnStrategySection, Tag(OWN)],
    Discriminator(type_or_own),
    Field(json_schema_extra=for_forms),
]
