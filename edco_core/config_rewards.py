"""Rewards in the configuration: one class per reward, chosen by ``type``.

Used for ``training.rewards``, a weighted list, and for what is a right answer in
``evaluation.metric`` and ``scoring.metric``, where a name alone will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
)
from pydantic_core import PydanticCustomError

from edco_core.config_section import Section


class BaseRewardSection(Section):
    """What all rewards have."""

    weight: float = Field(
        1.0, allow_inf_nan=False, description="The total is the sum of weight times value."
    )
    on_error: Literal["error", "zero"] = Field(
        "error",
        description="Of a reward that fails on an answer, or gives no finite number: stop with "
        "sample and reward, or count a zero.",
    )


class ComparingSection(BaseRewardSection):
    """Rewards that compare an answer with what is expected."""

    against: Literal["answer", "completion"] = Field(
        "answer", description="The sample's field that holds what is expected."
    )
    tag: str | None = Field(
        None,
        pattern=r"^\w+$",
        description="Look only into the last <tag>…</tag> of the text; without one it is wrong.",
    )


class ExactMatchSection(ComparingSection):
    """The whole text is what is expected, up to white space at both ends."""

    type: Literal["exact_match"] = "exact_match"
    against: Literal["answer", "completion"] = "completion"


class NumericSection(ComparingSection):
    """The last number of the text is the last of what is expected; commas are ignored."""

    type: Literal["numeric"] = "numeric"
    tolerance: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Largest difference that still is right."
    )


class ContainsSection(ComparingSection):
    """The text contains what is expected, or all of ``texts``."""

    type: Literal["contains"] = "contains"
    texts: list[str] | None = Field(
        None, min_length=1, description="Instead of the sample's field: all of these."
    )
    ignore_case: bool = False


_MEMBERS: tuple[type[BaseRewardSection], ...] = (
    ContainsSection,
    ExactMatchSection,
    NumericSection,
)
REWARD_TYPES = tuple(str(member.model_fields["type"].default) for member in _MEMBERS)


def _tag(value: Any) -> str:
    name = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return str(name)


def _refuse_unknown(value: Any) -> Any:
    """Raise the error of a type nobody registered, in pydantic's own terms."""
    if isinstance(value, Mapping):
        name = value.get("type")
        if name is None:
            raise PydanticCustomError("missing_type", "missing")
        if name not in REWARD_TYPES:
            expected = ", ".join(f"'{each}'" for each in REWARD_TYPES)
            raise PydanticCustomError(
                "union_tag_invalid", "unknown", {"tag": str(name), "expected_tags": expected}
            )
    return value


RewardSection = Annotated[
    Annotated[ContainsSection, Tag("contains")]
    | Annotated[ExactMatchSection, Tag("exact_match")]
    | Annotated[NumericSection, Tag("numeric")],
    Discriminator(_tag),
    BeforeValidator(_refuse_unknown),
]
