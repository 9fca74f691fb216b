"""Samples drawn with weights that follow their losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config_strategies import LossReweightingSection
from edco_core.curriculum.base import Candidate, Explanation, Strategy, selection_of
from edco_core.curriculum.race import chances_to_win, race

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats, Selection


class LossReweightingStrategy(Strategy[LossReweightingSection]):
    """A draw without replacement with weights exp(f(h) / r) (Sow et al., arXiv 2502.06733).

    h is the loss, mapped so that the pool's lowest is -1 and its highest 1; f is min(h + 1, 1) for
    ``linupper``, 1 - h^2 for ``quadratic`` and |h| for ``extremes``; r is ``temperature``.

    Departure: the paper weighs the gradients of a batch, and maps its losses; ours selects by the
    same weights from the whole pool, and all samples selected count alike.
    """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        settings, scores = self.settings, evidence.scores
        facts: dict[str, Any] = {
            "rule": "loss_reweighting",
            "weighting": settings.weighting,
            "temperature": settings.temperature,
            "num_samples": num_samples,
            "pool_size": len(scores),
            "lowest": float(scores.min()),
            "highest": float(scores.max()),
        }
        chosen, facts["race_time"] = race(_logits(scores, facts), num_samples, rng)
        chosen = rng.permutation(chosen)
        return selection_of(
            evidence,
            chosen,
            reason="weighted_draw",
            facts=facts,
            probabilities=chances_to_win(_logits(scores[chosen], facts), facts["race_time"]),
        )

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        logits = _logits(np.array([sample.scores[-1]]), facts)
        chance = float(chances_to_win(logits, facts["race_time"])[0])
        how = f"drawn with probability {chance:.3f}"
        if not sample.is_selected:
            how = f"not drawn; its probability was {chance:.3f}"
        return Explanation(f"{how}, weight {np.exp(logits[0]):.3f} ({sample.place})", chance)


def _logits(losses: Floats, facts: dict[str, Any]) -> Floats:
    span = facts["highest"] - facts["lowest"]
    h = (2 * losses - facts["highest"] - facts["lowest"]) / span if span > 0 else 0 * losses
    f = {"linupper": np.minimum(h + 1, 1), "quadratic": 1 - h**2, "extremes": np.abs(h)}
    logits: Floats = f[facts["weighting"]] / facts["temperature"]
    return logits
