"""DUMP: categories by how much there was to learn, and how rarely they were tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config_strategies import DumpSection
from edco_core.curriculum.bandit import BanditStrategy

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats, Ints, RolloutGroups


class DumpStrategy(BanditStrategy[DumpSection]):
    """Mean absolute advantage of a category's newest ``window`` answers + sqrt(2 ln(n + 1) /
    (n_d + 1)), with n_d the prompts sampled from it so far and n those of all (DUMP, arXiv
    2504.09710).

    Departure: values are renewed after each interval, not each step.  The window is kept in whole
    groups: as many of the newest as it takes to reach it.
    """

    def values(
        self, evidence: Evidence, groups: RolloutGroups | None, arms: Ints
    ) -> tuple[Floats, dict[str, Any]]:
        names = evidence.samples.categories.names
        state = {}
        for arm, name in enumerate(names):
            known = evidence.state.get(name, {"num_prompts": 0, "newest": []})
            new: list[list[float]] = []
            if groups is not None:
                own = arms == arm
                columns = zip(groups.advantage_abs_mean[own], groups.n[own], strict=True)
                new = [[float(advantage), int(n)] for advantage, n in columns]
            state[name] = {
                "num_prompts": known["num_prompts"] + len(new),
                "newest": _newest([*known["newest"], *new], self.settings.window),
            }
        counts = np.array([state[name]["num_prompts"] for name in names])
        means = np.array([_mean(state[name]["newest"]) for name in names])
        return means + np.sqrt(2 * np.log(counts.sum() + 1) / (counts + 1)), state


def _newest(groups: list[list[float]], window: int) -> list[list[float]]:
    """The last groups, [mean, number of answers] each, that have ``window`` answers together."""
    num_answers = 0.0
    for kept, (_, n) in enumerate(reversed(groups), start=1):
        num_answers += n
        if num_answers >= window:
            return groups[-kept:]
    return groups


def _mean(groups: list[list[float]]) -> float:
    num_answers = sum(n for _, n in groups)
    return sum(mean * n for mean, n in groups) / num_answers if num_answers else 0.0
