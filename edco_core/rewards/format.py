"""The shape that was asked for."""

from __future__ import annotations

from edco_core.config_rewards import FormatSection
from edco_core.rewards.base import Answered, OneByOneReward


class FormatReward(OneByOneReward[FormatSection]):
    """1 when the text is not empty, was not cut at the token limit, and has its tags.

    Each tag opens once and closes once, with something in it; the next opens behind it, so none is
    inside another.
    """

    def value(self, answered: Answered) -> float:
        if not answered.text.strip() or (self.settings.ended and answered.truncated):
            return 0.0
        rest, outside = answered.text, ""
        for tag in self.settings.tags:
            if any(answered.text.count(each) != 1 for each in (f"<{tag}>", f"</{tag}>")):
                return 0.0
            before, opened, rest = rest.partition(f"<{tag}>")
            inside, closed, rest = rest.partition(f"</{tag}>")
            if not (opened and closed and inside.strip()):
                return 0.0
            outside += before
        return float(not (self.settings.only_tags and (outside + rest).strip()))
