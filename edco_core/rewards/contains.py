"""The text contains something."""

from __future__ import annotations

from edco_core.config_rewards import ContainsSection
from edco_core.rewards.base import Answered, ComparingReward


class ContainsReward(ComparingReward[ContainsSection]):
    """1 when the text contains what is expected, or all of ``texts``."""

    @property
    def needs(self) -> frozenset[str]:
        return super().needs if self.settings.texts is None else frozenset()

    def is_right(self, given: str, answered: Answered) -> bool:
        wanted = self.settings.texts or [self.expected(answered).strip()]
        if self.settings.ignore_case:
            given, wanted = given.casefold(), [each.casefold() for each in wanted]
        return all(each != "" and each in given for each in wanted)

    def problem(self, asked: Answered) -> str | None:
        if self.settings.texts is not None or self.expected(asked).strip():
            return None
        return f"{self.settings.against}: is empty, which every text contains"
