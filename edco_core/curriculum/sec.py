"""SEC: categories by a moving average of how much there was to learn from their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config_strategies import SecSection
from edco_core.curriculum.bandit import BanditStrategy, mean_by_arm

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats, Ints, RolloutGroups


class SecStrategy(BanditStrategy[SecSection]):
    """Q <- (1 - alpha) Q + alpha r, with r the mean absolute advantage of a category's answers in
    the interval before, 0 for a category without any (Self-Evolving Curriculum, arXiv 2505.14970).

    Departure: the paper renews Q after each step, ours after each interval.  Groups that a step
    passed over count as well.
    """

    def values(
        self, evidence: Evidence, groups: RolloutGroups | None, arms: Ints
    ) -> tuple[Floats, dict[str, Any]]:
        names = evidence.samples.categories.names
        before = evidence.state.get("q", {})
        q = np.array([before.get(name, 0.0) for name in names], np.float64)
        if groups is not None:
            reward, _ = mean_by_arm(groups.advantage_abs_mean, groups.n, arms, len(names))
            q += self.settings.learning_rate * (reward - q)
        return q, {"q": dict(zip(names, q.tolist(), strict=True))}
