"""Strategies one after another."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edco_core.config_curriculum import StagesSection
from edco_core.curriculum.base import Strategy

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Selection


class StagesStrategy(Strategy[StagesSection]):
    """Each interval's curriculum is that of the stage it belongs to.

    A stage's strategy sees the run's own intervals and all of its past, also what other stages
    selected and had sampled.  What it keeps itself (``state``) begins with its stage, such as how
    often a bandit has tried a category.
    """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        # Imported here: this is one of the strategies that are looked up there.
        from edco_core.curriculum import build_strategy

        number = self.settings.stage_at(evidence.interval)
        seen = copy.copy(evidence)
        seen.state = evidence.state.get(str(number), {})
        strategy = build_strategy(self.settings.stages[number].strategy)
        made = strategy.select(seen, num_samples, rng)
        return replace(
            made,
            facts={**made.facts, "stage": number},
            state={**evidence.state, str(number): made.state},
        )
