"""A strategy of our own, to be compared: entropy against a sample's own history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.curriculum.base import Strategy, selection_of

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats, Selection


class OwnHistory(Strategy[Any]):
    """A tempered draw by entropy and by how it changed since the interval before.

    The key is ``z(entropy) + weight * z(fall)`` and Gumbel noise, z the score standardised over the
    pool.  With a ``weight`` above 0 samples that are just being learned are preferred to those that
    stay as they were, which noise and wrong answers do; below 0 it is the other way round.
    """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        weight = float(self.settings.args.get("weight", 1.0))
        keys = _standardised(evidence.scores)
        if evidence.interval > 0:
            fall = evidence.scores_at(evidence.interval - 1) - evidence.scores
            keys = keys + weight * _standardised(fall)
        keys = keys + rng.gumbel(size=len(keys))
        chosen = np.argsort(-keys, kind="stable")[:num_samples]
        return selection_of(
            evidence, rng.permutation(chosen), reason="own_history", facts={"weight": weight}
        )


def _standardised(values: Floats) -> Floats:
    std = float(values.std())
    standardised: Floats = (values - values.mean()) / (std if std > 0 else 1.0)
    return standardised
