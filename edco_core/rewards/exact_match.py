"""The whole text is what is expected."""

from __future__ import annotations

from edco_core.config_rewards import ExactMatchSection
from edco_core.rewards.base import Answered, ComparingReward


class ExactMatchReward(ComparingReward[ExactMatchSection]):
    """1 when the text is what is expected, up to white space at both ends."""

    def is_right(self, given: str, answered: Answered) -> bool:
        return given.strip() == self.expected(answered).strip()
