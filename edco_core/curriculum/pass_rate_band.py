"""Samples whose pass rate lies inside a band: of difficulty_filter, speed and shuffle_r1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config_rewarded import DifficultyFilterSection, ShuffleR1Section, SpeedSection
from edco_core.curriculum.base import Candidate, Explanation, Strategy, highest, selection_of
from edco_core.curriculum.pass_rates import last_answers, last_counts

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import BoolArray, Ints, Selection


BandSection = DifficultyFilterSection | ShuffleR1Section | SpeedSection


class PassRateBandStrategy(Strategy[BandSection]):
    """A uniform draw of the samples that were not found too easy or too hard.

    DAPO (arXiv 2503.14476), SPEED-RL (arXiv 2506.09016) and Shuffle-R1 (arXiv 2508.05612) decide
    when a step samples its answers (edco_core/training/sampling.py), and ask all prompts alike.
    Departure: whose last pass rate, of at most ``memory`` intervals ago, was not strictly between
    ``low`` and ``high`` is drawn only where there are not N others.
    """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        settings, size = self.settings, len(evidence.scores)
        n, correct = last_counts(evidence, settings.memory)
        is_outside = _is_outside(n, correct, settings.low, settings.high)
        shuffled = rng.permutation(size)
        chosen = shuffled[highest(np.where(is_outside[shuffled], 0.0, 1.0), num_samples)]
        ordinals = rng.permutation(chosen)
        facts = {
            "rule": settings.type,
            "low": settings.low,
            "high": settings.high,
            "memory": settings.memory,
            "num_samples": num_samples,
            "pool_size": size,
            "num_known": int((n > 0).sum()),
            "num_inside": int((~is_outside).sum()),
        }
        return selection_of(
            evidence,
            ordinals,
            reason="pass_rate_band",
            facts=facts,
            probabilities=np.where(is_outside[ordinals], *reversed(_chances(facts))),
        )

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        n, correct = last_answers(sample, facts["memory"])
        low, high = facts["low"], facts["high"]
        is_outside = bool(_is_outside(np.array([n]), np.array([correct]), low, high)[0])
        chance = _chances(facts)[is_outside]
        how = "drawn" if sample.is_selected else "not drawn"
        how += f" with probability {chance:.3f}: "
        if n == 0:
            how += f"its pass rate is not known from the last {facts['memory']} intervals"
        else:
            where = "not inside" if is_outside else "inside"
            how += f"{correct} of {n} answers right, {where} the band from {low:g} to {high:g}"
        return Explanation(how, chance)


def _is_outside(n: Ints, correct: Ints, low: float, high: float) -> BoolArray:
    rates = correct / np.maximum(n, 1)
    outside: BoolArray = (n > 0) & ~((low < rates) & (rates < high))
    return outside


def _chances(facts: dict[str, Any]) -> tuple[float, float]:
    """To be drawn: for a sample that is not outside the band, and for one that is."""
    num_samples, num_inside = facts["num_samples"], facts["num_inside"]
    num_outside = facts["pool_size"] - num_inside
    return (
        min(1.0, num_samples / max(1, num_inside)),
        max(0, num_samples - num_inside) / max(1, num_outside),
    )
