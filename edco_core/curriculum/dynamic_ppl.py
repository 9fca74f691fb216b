"""The samples whose reference answers surprise the current model most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config_strategies import DynamicPplSection
from edco_core.curriculum.base import (
    Candidate,
    Explanation,
    Ranking,
    Strategy,
    highest,
    selection_of,
)

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats, Selection


class DynamicPplStrategy(Strategy[DynamicPplSection]):
    """The N highest losses under the current model, in descending order (Dynamic-PPL, the closest
    baseline of EDCO, arXiv 2601.03725).

    Loss and perplexity select the same samples.
    """

    def ranking(self, scores: Floats, rng: np.random.Generator) -> Ranking | None:
        return Ranking(1.0, np.zeros(len(scores)))

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        return selection_of(
            evidence,
            highest(evidence.scores, num_samples),
            reason="top_n",
            facts={
                "rule": "dynamic_ppl",
                "num_samples": num_samples,
                "pool_size": len(evidence.scores),
            },
        )

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        how = f"among the {facts['num_samples']} highest ({sample.place})"
        if not sample.is_selected:
            how = f"not {how}, {sample.rank - facts['num_samples']} places short"
        return Explanation(how, by_score=True)
