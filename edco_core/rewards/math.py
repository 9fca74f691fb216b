"""Mathematical expressions, compared by what they mean (library math-verify).

Grading is Python's and SymPy's, with a time limit by SIGALRM: it needs the main thread.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from edco_core.config_rewards import MathSection
from edco_core.errors import ConfigError
from edco_core.rewards.base import Answered, ComparingReward

# A word on its own makes a text prose, out of which the library takes the last expression.
_PROSE = re.compile(r"(?:^|\s)[A-Za-z]{2,}[.,;:!?]?(?:\s|$)")
_DELIMITED = re.compile(r"\$|\\boxed|\\\(|\\\[")


class MathReward(ComparingReward[MathSection]):
    """1 when the text's expression equals the expected one, in value or by algebra.

    Of a text with ``####`` only what stands behind counts (GSM8K).  Where a text is nothing but an
    expression the LaTeX delimiters may be left out.
    """

    max_checked: ClassVar[int | None] = 200  # parsing takes milliseconds

    def __init__(self, settings: MathSection, *, cache_dir: Path | None = None) -> None:
        super().__init__(settings, cache_dir=cache_dir)
        self._parse, self._verify = _library()

    def is_right(self, given: str, answered: Answered) -> bool:
        expected = self.expected(answered)
        gold = self._expressions(expected)
        if not gold:
            field = self.settings.against
            raise ValueError(f"no mathematical expression in its {field} {expected!r}")
        # The library's own order of arguments: what is expected comes first.
        return bool(
            self._verify(
                list(gold),
                list(self._expressions(given)),
                timeout_seconds=self.settings.timeout_s,
            )
        )

    def problem(self, asked: Answered) -> str | None:
        if self._expressions(self.expected(asked)):
            return None
        return (
            f"{self.settings.against}: {self.expected(asked)!r} came, in which there is no "
            "mathematical expression"
        )

    def _expressions(self, text: str) -> tuple[Any, ...]:
        """What the library found: an expression and its text; empty where there is none."""
        return _parsed(self._parse, text, self.settings.timeout_s)


@lru_cache(maxsize=8192)
def _parsed(parse: Callable[..., list[Any]], text: str, timeout_s: int) -> tuple[Any, ...]:
    text = text.rpartition("####")[2].strip()
    if text and not (_PROSE.search(text) or _DELIMITED.search(text)):
        found = parse(f"${text}$", parsing_timeout=timeout_s, fallback_mode="no_fallback")
        if found:
            return tuple(found)
    return tuple(parse(text, parsing_timeout=timeout_s))


def _library() -> tuple[Callable[..., list[Any]], Callable[..., bool]]:
    """``parse`` and ``verify``; raises ConfigError where the library is missing."""
    # An extra of the package, and a second to load.
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise ConfigError(
            "the reward 'math' needs the library math-verify, which is not installed here: type "
            "pip install 'edco[math]'. Without it use numeric, exact_match or llm_judge."
        ) from error
    # Its warnings quote the texts it was given.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return parse, verify
