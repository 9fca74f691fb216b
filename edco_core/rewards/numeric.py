"""The last number of a text."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from edco_core.config_rewards import NumericSection
from edco_core.rewards.base import Answered, ComparingReward

# A sign right after a digit joins two numbers (20-5, 2024-05-17); a comma belongs to a number only
# before three digits.
_NUMBER = re.compile(
    r"(?:(?<!\d)(?P<sign>[-+])[$€£¥]?)?"
    r"(?P<value>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\w)\.\d+)"
    r"(?:[eE](?P<exponent>[-+]?\d+)(?!\w)"
    r"|\s*(?:×|x|\*|·|\\times|\\cdot)\s*10\s*(?:\^|\*\*)\s*\{?(?P<power>[-+]?\d+)\}?"
    r"|/(?P<below>\d+(?:\.\d+)?)(?![\d/]))?"
)
_SAME = str.maketrans({"\u2212": "-", "\u2013": "-"})
"""Minus sign and en dash."""
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\\,)(?=\d{3})")
_PART = r"\s*(?:\{\s*([-+]?\d+(?:\.\d+)?)\s*\}|(\d))"
_FRACTION = re.compile(rf"\\[dt]?frac{_PART}{_PART}")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_TEN_RAISED = re.compile(r"(?<![\d.,])(10)([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_POWER = re.compile(  # of ten alone; one with a factor before it is a part of _NUMBER
    r"(?P<times>(?:×|(?<=[\d ])x|\*|·|\\times|\\cdot)\s*)?(?<![\d.,])10\s*(?:\^|\*\*)\s*"
    r"\{?(?P<power>[-+]?\d+)\}?"
)
_UNREAD = re.compile(r"\\(?:[dt]?frac|sqrt)|\d(?:[⁰¹²³⁴⁵⁶⁷⁸⁹]|\s*(?:\^|\*\*)\s*\{?[-+]?\d)")
"""What is left of powers and roots that are no plain number."""
_MIXED = re.compile(r"(?<![\d./,])(\d{1,9}) (\d{1,9})/(\d{1,9})(?![\d/])")  # 3 1/2
_UNIT_POWER = re.compile(
    r"(?<=[A-Za-z])(?:\^\{?-?\d+\}?)|(?<=\b(?:mm|cm|dm|km|in|ft|yd|mi))[23]\b|(?<=\bm)[23]\b"
)
_MOST_DIGITS = 400


class NumericReward(ComparingReward[NumericSection]):
    """1 when the last number of the text is the last of what is expected.

    Numbers are such as ``-1,234.50``, ``-$5``, ``1e6``, ``10^6``, ``6.02 × 10^23``, ``3/4`` and
    ``\\frac{3}{4}``, and compared exactly; powers of units (``5 km^2``) are none.
    """

    def is_right(self, given: str, answered: Answered) -> bool:
        found, expected = last_number(given), last_number(self.expected(answered))
        if found is None or expected is None:
            return False
        # By its decimal digits, so that 0.31 is within 0.01 of 0.30.
        return abs(found - expected) <= Fraction(Decimal(repr(self.settings.tolerance)))

    def problem(self, asked: Answered) -> str | None:
        field, expected = self.settings.against, self.expected(asked)
        if last_number(expected) is None:
            return f"{field}: {expected!r} came, in which there is no number"
        if _UNREAD.search(_NUMBER.sub("0", _plain(expected))):
            return f"{field}: {expected!r} came, a power or root, which the reward 'math' reads"
        return None


def last_number(text: str) -> Fraction | None:
    """None where there is none, or where it is too large to be worked with."""
    found = list(_NUMBER.finditer(_plain(text)))
    if not found or len((match := found[-1])[0]) > _MOST_DIGITS:
        return None
    value = Fraction(Decimal(match["value"].replace(",", "")))
    exponent = int(match["exponent"] or match["power"] or 0)
    if abs(exponent) > _MOST_DIGITS:
        return None
    value *= Fraction(10) ** exponent
    if match["below"]:
        below = Fraction(match["below"])
        if match.string[match.start() - 1 : match.start()] == "/":  # a date, or a path
            value = below
        elif below == 0:
            return None
        else:
            value /= below
    return -value if match["sign"] == "-" else value


def _plain(text: str) -> str:
    """The text with its numbers as ``_NUMBER`` reads them."""
    text = _FRACTION.sub(_as_quotient, _THOUSANDS.sub(",", text.translate(_SAME)))
    text = _MIXED.sub(lambda m: f"{int(m[1]) * int(m[3]) + int(m[2])}/{m[3]}", text)
    text = _TEN_RAISED.sub(lambda m: f"{m[1]}^{m[2].translate(_RAISED)}", text)
    text = _POWER.sub(lambda m: m[0] if m["times"] else f"1e{m['power']} ", text)
    return _UNIT_POWER.sub("", text)


def _as_quotient(match: re.Match[str]) -> str:
    """``\\frac{-1}{2}`` and ``\\frac12`` as -1/2 and 1/2; behind a digit a mixed number's part."""
    above, below = match[1] or match[2], match[3] or match[4]
    is_negative = above.startswith("-") != below.startswith("-")
    quotient = f"{'-' if is_negative else ''}{above.lstrip('+-')}/{below.lstrip('+-')}"
    return f" {quotient}" if match.string[match.start() - 1 : match.start()].isdigit() else quotient
