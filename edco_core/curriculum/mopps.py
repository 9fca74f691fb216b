"""MoPPS: chances drawn from beliefs, those nearest to a target selected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config_rewarded import MoppsSection
from edco_core.curriculum.base import Candidate, Explanation, Strategy, highest, selection_of
from edco_core.curriculum.pass_rates import beliefs_now, to_keep, told

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Selection


class MoppsStrategy(Strategy[MoppsSection]):
    """The N samples whose drawn chance is nearest to ``target`` (MoPPS, arXiv 2507.04632).

    Each sample's chance to be answered correctly is drawn from its Beta posterior (Thompson
    sampling), so that samples of which little is known are tried.  Departures: beliefs are renewed
    once per interval, for all of the pool; candidates are the whole pool; and the discount, which
    the paper tunes for each task, is 0.5 unless told otherwise.
    """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        settings = self.settings
        prior = (settings.prior_correct, settings.prior_wrong)
        alpha, beta = beliefs_now(evidence, prior, settings.discount)
        distances = np.abs(rng.beta(alpha, beta) - settings.target)
        nearest = highest(-distances, num_samples)
        return selection_of(
            evidence,
            rng.permutation(nearest),
            reason="posterior_draw",
            facts={
                "rule": "mopps",
                "target": settings.target,
                "prior": list(prior),
                "discount": settings.discount,
                "num_samples": num_samples,
                "pool_size": len(alpha),
                "farthest": float(distances[nearest].max()),
            },
            beliefs=to_keep(alpha, beta, prior),
        )

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        how = "among" if sample.is_selected else "not among"
        how += f" the {facts['num_samples']} whose drawn chance was nearest to {facts['target']:g}"
        how += f" (within {facts['farthest']:.3f}): {told(sample, facts['prior'])}"
        return Explanation(how)
