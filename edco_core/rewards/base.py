"""What every reward is given and returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import numpy as np

from edco_core.config_rewards import BaseRewardSection, ComparingSection

if TYPE_CHECKING:
    from edco_core.records import Floats

SettingsT = TypeVar("SettingsT", bound=BaseRewardSection)
ComparingT = TypeVar("ComparingT", bound=ComparingSection)

CORRECT_FROM = 1.0
"""An answer is correct when the first reward of the list gives it at least this."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a reward sees of one generated answer."""

    sample_id: str
    prompt: str
    """Plain text; the turns of a conversation, as people would read them."""
    text: str
    """What was generated, special tokens skipped."""
    reference: str
    """The sample's completion as plain text."""
    answer: str | None
    """The sample's field ``answer``."""
    truncated: bool
    """Whether generation ended at the token limit, without an end-of-sequence token."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a judge was asked and cost, from the beginning of the run."""

    num_requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    """In the unit of the configured prices."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.num_requests + other.num_requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost + other.cost,
        )


class Reward(ABC, Generic[SettingsT]):
    """Answers in, one number for each out.  1 is right and 0 is wrong, where it is about that.

    A value depends on the answer alone, not on the others of the batch.
    """

    nan_means: ClassVar[str] = "nan"
    """What it says about an answer when the reward gives NaN for it."""
    max_checked: ClassVar[int | None] = None
    """How many samples of a pool ``problem`` is asked about beforehand; None: all."""

    def __init__(self, settings: SettingsT, *, cache_dir: Path | None = None) -> None:
        """``cache_dir`` is the run's own folder; None: nothing is kept on disk."""
        self.settings = settings

    @property
    def needs(self) -> frozenset[str]:
        """Optional fields of a sample this reward cannot do without."""
        return frozenset()

    @property
    def usage(self) -> Usage:
        return Usage()

    def problem(self, asked: Answered) -> str | None:
        """Why every answer to this sample would be wrong: ``field: …``; None where none is known.

        ``asked`` has an empty text.
        """
        return None

    @abstractmethod
    def score(self, batch: Sequence[Answered]) -> Floats:
        """Shape (len(batch),).  NaN, or an exception, for what cannot be scored."""


class OneByOneReward(Reward[SettingsT]):
    """A reward that looks at one answer after the other."""

    @abstractmethod
    def value(self, answered: Answered) -> float: ...

    def score(self, batch: Sequence[Answered]) -> Floats:
        return np.array([self.value(each) for each in batch], dtype=np.float64)


class ComparingReward(OneByOneReward[ComparingT]):
    """A reward that compares an answer with what the sample's field ``against`` expects."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"answer"} if self.settings.against == "answer" else ())

    @abstractmethod
    def is_right(self, given: str, answered: Answered) -> bool:
        """Whether ``given``, the part of the text to look at, is what is expected."""

    def value(self, answered: Answered) -> float:
        given = self.given(answered)
        return 0.0 if given is None else float(self.is_right(given, answered))

    def given(self, answered: Answered) -> str | None:
        """The part of the text to look at; None where it lacks the tag."""
        if self.settings.tag is None:
            return answered.text
        return last_tagged(answered.text, self.settings.tag)

    def expected(self, answered: Answered) -> str:
        if self.settings.against == "completion":
            return answered.reference
        return answered.answer or ""


def last_tagged(text: str, tag: str) -> str | None:
    """What is inside the last closed ``<tag>…</tag>``; None where there is none."""
    before, closing, _ = text.rpartition(f"</{tag}>")
    _, opening, inside = before.rpartition(f"<{tag}>")
    return inside if closing and opening else None
