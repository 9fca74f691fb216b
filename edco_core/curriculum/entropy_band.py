"""A uniform draw of samples that are neither certain nor hopeless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config_strategies import EntropyBandSection
from edco_core.curriculum.base import Candidate, Explanation, Strategy, highest, selection_of

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Selection


class EntropyBandStrategy(Strategy[EntropyBandSection]):
    """N samples, uniformly from those whose scores lie between two quantiles of the pool.

    Of no single paper: it keeps the idea that samples of middling difficulty teach most, and does
    without EDCO's bet on the very highest entropies, which noisy labels have, too.  Equal scores
    are in the order of the pool.
    """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        scores, size = evidence.scores, len(evidence.scores)
        first, end = self.settings.places(size)
        num_above = size - end
        band = np.sort(highest(scores, size - first)[num_above:])
        return selection_of(
            evidence,
            rng.permutation(band)[:num_samples],
            reason="band_draw",
            facts={
                "rule": "entropy_band",
                "num_samples": num_samples,
                "pool_size": size,
                "num_above": num_above,
                "num_inside": len(band),
                "lowest": float(scores[band].min()),
                "highest": float(scores[band].max()),
            },
            probabilities=np.full(num_samples, num_samples / len(band)),
        )

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        band = f"the band from {facts['lowest']:.4f} to {facts['highest']:.4f}"
        if not 0 < sample.rank - facts["num_above"] <= facts["num_inside"]:
            where = "above" if sample.rank <= facts["num_above"] else "below"
            return Explanation(f"{where} {band} ({sample.place})", 0.0)
        chance = facts["num_samples"] / facts["num_inside"]
        drawn = "drawn" if sample.is_selected else "not drawn"
        how = f"{drawn} from the {facts['num_inside']} in {band}, probability {chance:.3f}"
        return Explanation(f"{how} ({sample.place})", chance)
