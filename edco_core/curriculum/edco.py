"""EDCO's selection: the samples the current model is least certain about."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config import EdcoSection
from edco_core.curriculum.base import Ranking, Strategy, rank_descending
from edco_core.records import Selection

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats


class EdcoStrategy(Strategy[EdcoSection]):
    """N samples by inference entropy (EDCO, arXiv 2601.03725, curriculum selection).

    ``temperature`` 0 is the paper's rule: the N highest, in descending order with ``preset:
    paper``.  A temperature above 0 departs from it: a draw without replacement by Gumbel top-N on
    z-scored entropies, ``z / temperature + Gumbel noise``, whose chance to be selected grows with
    entropy; towards infinity it becomes the uniform draw.  ``skip_top`` leaves out the samples of
    highest entropy as outliers (an option in the released code).
    """

    def ranking(self, scores: Floats, rng: np.random.Generator) -> Ranking | None:
        settings = self.settings
        if settings.skip_top > 0:  # whom to skip is known only when everybody has been scored
            return None
        if settings.temperature == 0:
            return Ranking(1.0, np.zeros(len(scores)))
        std = float(scores.std())
        slope = 1 / (std * settings.temperature) if std > 0 else 0.0
        return Ranking(slope, rng.gumbel(size=len(scores)))

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        settings, scores = self.settings, evidence.scores
        by_score, ranks = rank_descending(scores)
        num_skipped = int(settings.skip_top * len(scores))
        # In the order of the pool, so that noise meets the same sample whatever its score.
        candidates = np.sort(by_score[num_skipped:])
        facts: dict[str, Any] = {
            "rule": "edco",
            "temperature": settings.temperature,
            "num_samples": num_samples,
            "pool_size": len(scores),
            "num_skipped": num_skipped,
        }
        if settings.temperature == 0:
            reason = "top_n"
            chosen = by_score[num_skipped : num_skipped + num_samples]
        else:
            reason = "tempered_draw"
            mean, std = float(scores[candidates].mean()), float(scores[candidates].std())
            logits = _logits(scores[candidates], mean, std, settings.temperature)
            keys = logits + rng.gumbel(size=len(candidates))
            chosen = candidates[np.argsort(-keys, kind="stable")[:num_samples]]
            race_time = _race_time(logits, num_samples)
            facts |= {"mean": mean, "std": std, "race_time": race_time}
        if settings.order == "shuffled":
            chosen = rng.permutation(chosen)
        else:
            chosen = chosen[np.argsort(ranks[chosen])]
        return Selection(
            ordinals=chosen.astype(np.int64),
            scores=scores[chosen],
            ranks=ranks[chosen],
            # In the order of training, as everything here.
            probabilities=inclusion_probability(scores[chosen], facts)
            if reason == "tempered_draw"
            else None,
            reason=reason,
            cutoff=float(scores[chosen].min()),
            facts=facts,
        )


def inclusion_probability(scores: Floats, facts: dict[str, Any]) -> Floats:
    """Chance of samples with these scores to be in the curriculum, from a selection's facts.

    Gumbel top-N is a race of exponential clocks with rates exp(logit): the N first to ring are
    selected.  With many samples the N-th rings at a nearly fixed time t, so a sample is in with
    probability 1 - exp(-rate t).  ``race_time`` is ln t.
    """
    if facts["race_time"] is None:  # everybody is selected
        return np.ones_like(scores)
    logits = _logits(scores, facts["mean"], facts["std"], facts["temperature"])
    chances: Floats = -np.expm1(-np.exp(np.minimum(logits + facts["race_time"], 50.0)))
    return chances


def _logits(scores: Floats, mean: float, std: float, temperature: float) -> Floats:
    if std == 0:
        return np.zeros_like(scores)
    return (scores - mean) / (std * temperature)


def _race_time(logits: Floats, num_samples: int) -> float | None:
    """ln t with sum over samples of 1 - exp(-exp(logit) t) = N, by bisection; None if N is all."""
    if num_samples >= len(logits):
        return None
    low, high = -float(logits.max()) - 60.0, -float(logits.min()) + 60.0
    while high - low > 1e-9 * max(1.0, abs(low), abs(high)):
        middle = (low + high) / 2
        expected = float(-np.expm1(-np.exp(np.minimum(logits + middle, 50.0))).sum())
        low, high = (middle, high) if expected < num_samples else (low, middle)
        if math.isclose(expected, num_samples, rel_tol=1e-9):
            break
    return (low + high) / 2
