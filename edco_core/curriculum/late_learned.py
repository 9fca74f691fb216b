"""Samples that are learned late are drawn more often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config_strategies import LateLearnedSection
from edco_core.curriculum.base import Candidate, Explanation, Strategy, selection_of
from edco_core.curriculum.race import chances_to_win, race

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats, Selection


class LateLearnedStrategy(Strategy[LateLearnedSection]):
    """A draw without replacement in which samples learned late weigh more (Gangavarapu et al.,
    arXiv 2602.00576, who upsample them against an optimizer's bias to simple features).

    A sample is learned at the first interval that scores it no higher than ``learned_quantile`` of
    the first interval's scores.  Its weight grows in equal steps from 1, for one learned from the
    start, to ``upsampling``, for one that is not learned yet.

    Departure: the paper tells early from late once, after a trial training, and repeats the late
    ones; ours looks at the run's own history at each interval, and selects a sample at most once
    in an interval, so it is seen more often by being selected in more of them.
    """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        settings, num_scored = self.settings, evidence.interval + 1
        threshold = float(np.quantile(evidence.scores_at(0), settings.learned_quantile))
        is_waiting = np.ones(len(evidence.scores), bool)
        num_waited = np.zeros(len(evidence.scores), np.int64)  # intervals before it was learned
        for interval in range(num_scored):
            is_waiting &= evidence.scores_at(interval) > threshold
            num_waited += is_waiting
        facts: dict[str, Any] = {
            "rule": "late_learned",
            "upsampling": settings.upsampling,
            "num_samples": num_samples,
            "pool_size": len(is_waiting),
            "threshold": threshold,
            "num_scored": num_scored,
            "num_not_learned": int(is_waiting.sum()),
        }
        logits = np.log(_weights(num_waited, facts))
        chosen, facts["race_time"] = race(logits, num_samples, rng)
        chosen = rng.permutation(chosen)
        return selection_of(
            evidence,
            chosen,
            reason="weighted_draw",
            facts=facts,
            probabilities=chances_to_win(logits[chosen], facts["race_time"]),
        )

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        learned = [k for k, score in enumerate(sample.scores) if score <= facts["threshold"]]
        num_waited = learned[0] if learned else facts["num_scored"]
        weight = _weights(np.array([num_waited]), facts)
        chance = float(chances_to_win(np.log(weight), facts["race_time"])[0])
        when = f"learned at interval {learned[0]}" if learned else "not learned yet"
        how = f"drawn with probability {chance:.3f}"
        if not sample.is_selected:
            how = f"not drawn; its probability was {chance:.3f}"
        return Explanation(f"{how}; {when}, weight {weight[0]:.3f}", chance)


def _weights(num_waited: Any, facts: dict[str, Any]) -> Floats:
    weights: Floats = 1 + (facts["upsampling"] - 1) * num_waited / facts["num_scored"]
    return weights
