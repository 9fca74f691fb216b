"""The option chosen in a multiple-choice question."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edco_core.config_rewards import ChoiceSection
from edco_core.rewards.base import Answered, ComparingReward

# "B) text", "(B) text", "B. text", "B: text" on a line of its own.
_OPTION = re.compile(r"^[ \t]*\(?([A-Z])[).:][ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
# The same, one after the other on a line.
_NEXT_ON_LINE = re.compile(r"(?<=\S)[ \t]+(?=\([B-Z]\)[ \t]*\S)")
_ON_LINE = re.compile(r"^[ \t]*\(A\)[ \t]*\S.*\(B\).*$", re.MULTILINE)
_LETTER_ALONE = re.compile(r"\W*([A-Za-z])\W*")
_FIRST_LINE = re.compile(r"[^\w\n]*([A-Z])[^\w\n]*\n")
_LETTER_IN_FRONT = re.compile(r"\s*[*_]*\(?([A-Z])[).:]")
_BOXED = re.compile(r"\\boxed\{(?:\\text\{)?\s*\(?([A-Za-z])\)?\s*\}")
# A small letter only at the end: "the answer is a planet" names no option.
_BETWEEN = r"(?:[\s*_:\uff1a=\"'`$\[({]|\\[(]|\\text\{|(?i:\bis\b)|是|为)*"
_LETTER = r"([A-Z](?![\w'])|[a-z](?=[\W_]*$))"
_STATED_ANSWER = re.compile(rf"(?:(?i:\banswer\b)|答案){_BETWEEN}{_LETTER}")
_STATED_OPTION = re.compile(rf"(?i:\b(?:option|choice)\b){_BETWEEN}{_LETTER}")
_IN_BRACKETS = re.compile(r"\(([A-Z])\)")


class ChoiceReward(ComparingReward[ChoiceSection]):
    """1 when the text chooses the expected option.

    Options are the prompt's lines such as ``B) text``, or ``(A) one (B) two`` on one; a letter that
    is none of them counts as no choice.  In the text the first of these that is there decides: the
    last ``\\boxed{B}``; the last ``answer is B`` or ``**Answer:** (B)``; the last ``option B``; the
    text is a letter, or an option's text; its first line is a letter; it has one in front
    (``B) …``); it holds exactly one option's text; the last ``(B)``.  Expected is a letter, or an
    option's text.
    """

    def is_right(self, given: str, answered: Answered) -> bool:
        options = options_of(answered.prompt)
        expected = self._expected_letter(answered, options)
        return expected is not None and chosen_letter(given, options) == expected

    def problem(self, asked: Answered) -> str | None:
        if self._expected_letter(asked, options_of(asked.prompt)) is not None:
            return None
        return (
            f"{self.settings.against}: {self.expected(asked)!r} came, which is neither the letter "
            "nor the text of an option of the prompt (lines such as 'B) text')"
        )

    def _expected_letter(self, answered: Answered, options: Mapping[str, str]) -> str | None:
        return chosen_letter(self.expected(answered), options)


def options_of(prompt: str) -> dict[str, str]:
    """Letter to text, of the last list in the prompt that begins with A.

    One of a single entry is none where there is a longer one: ``A:`` before the answer.
    """
    prompt = _ON_LINE.sub(lambda line: _NEXT_ON_LINE.sub("\n", line[0]), prompt)
    lists: list[dict[str, str]] = [{}]
    for letter, text in _OPTION.findall(prompt):
        if letter == "A":
            lists.append({})
        if letter == chr(ord("A") + len(lists[-1])):
            lists[-1][letter] = text
    return next((each for each in reversed(lists) if len(each) > 1), lists[-1])


def chosen_letter(text: str, options: Mapping[str, str]) -> str | None:
    """None where the text chooses nothing, or nothing for certain."""

    def known(letter: str) -> str | None:
        letter = letter.upper()
        return letter if not options or letter in options else None

    for stated in (_BOXED, _STATED_ANSWER, _STATED_OPTION):
        if found := [letter for each in stated.findall(text) if (letter := known(each))]:
            return found[-1]
    if (match := _LETTER_ALONE.fullmatch(text)) and (letter := known(match[1])):
        return letter
    plain = _normalised(text)
    texts = {letter: _normalised(option) for letter, option in options.items()}
    same = [letter for letter, option in texts.items() if option and option == plain]
    if len(same) == 1:
        return same[0]
    for pattern in (_FIRST_LINE, _LETTER_IN_FRONT):
        if (match := pattern.match(text)) and (letter := known(match[1])):
            return letter
    held = same or [
        letter
        for letter, option in texts.items()
        if option and re.search(rf"(?<!\w){re.escape(option)}(?!\w)", plain)
    ]
    if len(held) == 1:
        return held[0]
    bracketed = [letter for each in _IN_BRACKETS.findall(text) if (letter := known(each))]
    return bracketed[-1] if bracketed else None


def _normalised(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
