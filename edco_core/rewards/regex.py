"""A regular expression in the text."""

from __future__ import annotations

import re

from edco_core.config_rewards import RegexSection
from edco_core.rewards.base import Answered, OneByOneReward


class RegexReward(OneByOneReward[RegexSection]):
    """1 when the pattern is found anywhere in the text.

    With a group ``answer`` what the last match has there must be the sample's ``answer``, white
    space at both ends aside.
    """

    @property
    def needs(self) -> frozenset[str]:
        names = re.compile(self.settings.pattern).groupindex
        return frozenset({"answer"} if "answer" in names else ())

    def problem(self, asked: Answered) -> str | None:
        if not self.needs or (asked.answer or "").strip():
            return None
        return "answer: is empty, which no match of the group 'answer' counts as"

    def value(self, answered: Answered) -> float:
        if not self.needs:
            return float(re.search(self.settings.pattern, answered.text) is not None)
        found = None
        for match in re.finditer(self.settings.pattern, answered.text):
            found = match["answer"]
        expected = (answered.answer or "").strip()
        return float(found is not None and found.strip() == expected != "")
