"""Numbers about texts that need no model: words, lexical diversity, and some more."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edco_core.records import Floats

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|(?:(?![\u3040-\u30ff\u3400-\u9fff])\w)+|[^\w\s]")
MTLD_THRESHOLD = 0.72
_KINDS: tuple[Callable[[str], bool], ...] = (
    str.isdigit,
    lambda each: not (each.isalnum() or each.isspace()),
    str.isupper,
)
"""What counts as a digit, a sign, and a capital."""
_ASCII = [bytes(code for code in range(128) if is_one(chr(code))) for is_one in _KINDS]

STATISTICS = (
    "prompt_chars", "completion_chars", "prompt_words", "completion_words", "word_length",
    "variety", "mtld", "digits", "signs", "capitals",
)  # fmt: skip
"""Columns of ``statistics``: lengths as ln(1 + number), then characters per word, different words
per word, lexical diversity as ln(1 + MTLD), and shares of the characters."""
_LOGARITHMIC = [0, 1, 2, 3, STATISTICS.index("mtld")]


def words(text: str) -> list[str]:
    """Words and signs in lower case; of scripts without spaces, characters."""
    return _WORD.findall(text.lower())


def mtld(tokens: Sequence[str]) -> float:
    """Measure of textual lexical diversity (McCarthy and Jarvis, 2010): words per factor, a factor
    being as many as it takes for the share of different ones to fall below 0.72.

    Mean of reading forwards and backwards; the number of words where none ever comes again, as
    usual, though that is less than a longer text with one word twice gets.
    """
    return (_one_way(tokens) + _one_way(tokens[::-1])) / 2


def num_different_words(texts: Sequence[str | None]) -> Floats:
    """Shape (P,): how many words and signs of each text are not the same."""
    return np.array([len(set(words(each or ""))) for each in texts], np.float64)


def statistics(prompts: Sequence[str], completions: Sequence[str | None]) -> Floats:
    """Shape (P, 10): ``STATISTICS`` of each sample."""
    found = np.empty((len(prompts), len(STATISTICS)))
    for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        found[i] = _statistics(prompt, completion or "")
    found[:, _LOGARITHMIC] = np.log1p(found[:, _LOGARITHMIC])
    return found


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
    """The same of one sample, before logarithms."""
    text = f"{prompt} {completion}"
    in_prompt, in_completion = words(prompt), words(completion)
    tokens = in_prompt + in_completion
    num_chars, num_words = max(1, len(text)), max(1, len(tokens))
    if text.isascii():  # the same numbers in a tenth of the time
        ascii_only = text.encode()
        digits, signs, capitals = (
            len(text) - len(ascii_only.translate(None, each)) for each in _ASCII
        )
    else:
        digits, signs, capitals = (sum(map(is_one, text)) for is_one in _KINDS)
    return (
        len(prompt),
        len(completion),
        len(in_prompt),
        len(in_completion),
        len("".join(tokens)) / num_words,
        len(set(tokens)) / num_words,
        mtld(tokens),
        digits / num_chars,
        signs / num_chars,
        capitals / num_chars,
    )
