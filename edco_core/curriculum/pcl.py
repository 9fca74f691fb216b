"""PCL: of some candidates those whose predicted value is nearest to a half."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config_rewarded import PclSection
from edco_core.curriculum.base import (
    Candidate,
    Explanation,
    Strategy,
    highest,
    rank_descending,
    selection_of,
)
from edco_core.curriculum.pass_rates import last_counts
from edco_core.records import Beliefs

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats, Ints, Selection

FIT_WEIGHT = 2.0
"""The fit counts as much as two answers to the sample itself."""


class PclStrategy(Strategy[PclSection]):
    """k N candidates are drawn, the N with the smallest |V - target| selected (PCL, arXiv
    2510.01135).

    Departure: the paper's V is a language model with a value head, trained on each step's rewards.
    Ours is a line fitted to pass rates by the percentile of a sample's current score, corrected by
    the sample's own answers of the last interval that asked it, for ``memory`` intervals.  Before
    anything was sampled V is 0.5 for all, so that the first selection is a uniform draw.
    """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        settings, size = self.settings, len(evidence.scores)
        n, correct = last_counts(evidence, settings.memory)
        _, ranks = rank_descending(evidence.scores)
        percentiles = _percentiles(ranks, size)
        intercept, slope = fit(percentiles, n, correct)
        predicted = np.clip(intercept + slope * percentiles, 0.0, 1.0)
        values = (correct + FIT_WEIGHT * predicted) / (n + FIT_WEIGHT)
        candidates = rng.permutation(size)[: settings.candidates * num_samples]
        distances = np.abs(values[candidates] - settings.target)
        chosen = candidates[highest(-distances, num_samples)]
        known = np.flatnonzero(n)
        return selection_of(
            evidence,
            rng.permutation(chosen),
            reason="value_near_target",
            facts={
                "rule": "pcl",
                "target": settings.target,
                "num_candidates": len(candidates),
                "num_samples": num_samples,
                "pool_size": size,
                "num_known": len(known),
                "intercept": intercept,
                "slope": slope,
                "farthest": float(np.abs(values[chosen] - settings.target).max()),
            },
            beliefs=Beliefs(
                known,
                correct[known] + FIT_WEIGHT * predicted[known],
                (n - correct)[known] + FIT_WEIGHT * (1 - predicted[known]),
            ),
        )

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        if sample.belief is None:
            percentile = float(_percentiles(np.array([sample.rank]), sample.pool_size)[0])
            value = min(1.0, max(0.0, facts["intercept"] + facts["slope"] * percentile))
            source = f"predicted from its score ({sample.place})"
        else:
            alpha, beta = sample.belief
            value = alpha / (alpha + beta)
            source = f"its own {alpha + beta - FIT_WEIGHT:.0f} answers and its score"
        how = "among" if sample.is_selected else "not among"
        how += f" the {facts['num_samples']} nearest to {facts['target']:g} (within "
        how += f"{facts['farthest']:.3f}) of {facts['num_candidates']} candidates drawn from "
        how += f"{facts['pool_size']}: its value was {value:.3f}, {source}"
        return Explanation(how)


def fit(percentiles: Floats, n: Ints, correct: Ints) -> tuple[float, float]:
    """Intercept and slope of pass rates by percentile, least squares weighted by answers.

    A constant where all that is known is at one percentile, 0.5 where nothing is known.
    """
    if not n.any():
        return 0.5, 0.0
    x, weights = percentiles, n / n.sum()
    rates = correct / np.maximum(n, 1)
    x_mean, y_mean = float(weights @ x), float(weights @ rates)
    spread = float(weights @ (x - x_mean) ** 2)
    slope = float(weights @ ((x - x_mean) * (rates - y_mean))) / spread if spread > 0 else 0.0
    return y_mean - slope * x_mean, slope


def _percentiles(ranks: Ints, pool_size: int) -> Floats:
    """From 0, the lowest score, to 1."""
    return (pool_size - ranks) / max(1, pool_size - 1)
