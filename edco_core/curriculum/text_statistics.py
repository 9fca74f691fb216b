"""Numbers about texts that need no model: words, lexical diversity, and some more."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edco_core.records import Floats

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+|[^\w\s]")
MTLD_THRESHOLD = 0.72

STATISTICS = (
    "prompt_chars", "completion_chars", "prompt_words", "completion_words", "word_length",
    "variety", "mtld", "digits", "signs", "capitals",
)  # fmt: skip
"""Columns of ``statistics``: lengths as ln(1 + number), then characters per word, different words
per word, lexical diversity as ln(1 + MTLD), and shares of the characters."""


def words(text: str) -> list[str]:
    """Words and signs in lower case; of scripts without spaces, characters."""
    return _WORD.findall(text.lower())


def mtld(tokens: Sequence[str]) -> float:
    """Measure of textual lexical diversity (McCarthy and Jarvis, 2010): words per factor, a factor
    being as many as it takes for the share of different ones to fall below 0.72.

    Mean of reading forwards and backwards; the number of words where none ever comes again.
    """
    return (_one_way(tokens) + _one_way(tokens[::-1])) / 2


def statistics(prompts: Iterable[str], completions: Iterable[str | None]) -> Floats:
    """Shape (P, 10): ``STATISTICS`` of each sample."""
    rows = [
        _statistics(prompt, completion or "")
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    return np.array(rows, np.float64).reshape(len(rows), len(STATISTICS))


def _one_way(tokens: Sequence[str]) -> float:
    num_factors, num_words = 0.0, 0
    seen: set[str] = set()
    for token in tokens:
        num_words += 1
        seen.add(token)
        if len(seen) / num_words < MTLD_THRESHOLD:
            num_factors, num_words = num_factors + 1, 0
            seen.clear()
    if num_words:  # the part of a factor that is left over
        num_factors += (1 - len(seen) / num_words) / (1 - MTLD_THRESHOLD)
    return len(tokens) / num_factors if num_factors > 0 else float(len(tokens))


def _statistics(prompt: str, completion: str) -> tuple[float, ...]:
    text = f"{prompt} {completion}"
    in_prompt, in_completion = words(prompt), words(completion)
    tokens = in_prompt + in_completion
    num_chars, num_words = max(1, len(text)), max(1, len(tokens))
    return (
        *np.log1p([len(prompt), len(completion), len(in_prompt), len(in_completion)]),
        sum(map(len, tokens)) / num_words,
        len(set(tokens)) / num_words,
        float(np.log1p(mtld(tokens))),
        sum(map(str.isdigit, text)) / num_chars,
        sum(not (each.isalnum() or each.isspace()) for each in text) / num_chars,
        sum(map(str.isupper, text)) / num_chars,
    )
