"""The uniform draw: the baseline every curriculum has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edco_core.config import RandomSection
from edco_core.curriculum.base import Strategy, rank_descending
from edco_core.records import Selection

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence


class RandomStrategy(Strategy[RandomSection]):
    """N samples, uniformly and without replacement inside an interval, in the order drawn.

    Intervals draw independently, so a sample may come again.  Scores are ranked for the ledger and
    otherwise not looked at.
    """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        scores = evidence.scores
        ordinals = rng.permutation(len(scores))[:num_samples].astype(np.int64)
        _, ranks = rank_descending(scores)
        return Selection(
            ordinals=ordinals,
            scores=scores[ordinals],
            ranks=ranks[ordinals],
            probabilities=np.full(num_samples, num_samples / len(scores)),
            reason="random_draw",
            cutoff=float(scores[ordinals].min()),
            facts={"rule": "random", "num_samples": num_samples, "pool_size": len(scores)},
        )
