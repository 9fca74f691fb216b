"""The last number of a text."""

from __future__ import annotations

import math
import re

from edco_core.config_rewards import NumericSection
from edco_core.rewards.base import Answered, ComparingReward

# A sign right after a digit joins two numbers (20-5, 2024-05-17); a comma belongs to a number only
# before three digits.
_NUMBER = re.compile(r"(?:(?<!\d)[-+])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")


class NumericReward(ComparingReward[NumericSection]):
    """1 when the last number of the text is the last of what is expected; commas are ignored."""

    def is_right(self, given: str, answered: Answered) -> bool:
        found, expected = last_number(given), last_number(self.expected(answered))
        if found is None or expected is None:
            return False
        return abs(found - expected) <= self.settings.tolerance

    def problem(self, asked: Answered) -> str | None:
        if last_number(self.expected(asked)) is not None:
            return None
        field = self.settings.against
        return f"{field}: {self.expected(asked)!r} came, in which there is no number"


def last_number(text: str) -> float | None:
    """None where there is none, or where it is too large to be told from others."""
    numbers = _NUMBER.findall(text)
    number = float(numbers[-1].replace(",", "")) if numbers else math.inf
    return number if math.isfinite(number) else None
