"""The uniform draw: the baseline every curriculum has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config import RandomSection
from edco_core.curriculum.base import Candidate, Explanation, Strategy, selection_of

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Selection


class RandomStrategy(Strategy[RandomSection]):
    """N samples, uniformly and without replacement inside an interval, in the order drawn.

    Intervals draw independently, so a sample may come again.  Scores are ranked for the ledger and
    otherwise not looked at.
    """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        pool_size = len(evidence.scores)
        return selection_of(
            evidence,
            rng.permutation(pool_size)[:num_samples],
            reason="random_draw",
            facts={"rule": "random", "num_samples": num_samples, "pool_size": pool_size},
            probabilities=np.full(num_samples, num_samples / pool_size),
        )

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        chance = facts["num_samples"] / facts["pool_size"]
        if sample.is_selected:
            how = f"drawn uniformly, {facts['num_samples']} of {facts['pool_size']}"
        else:
            how = f"not drawn; every sample had probability {chance:.3f}"
        return Explanation(how, chance)
