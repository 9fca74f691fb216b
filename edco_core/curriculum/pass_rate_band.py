"""Samples whose pass rate lies inside a band: of difficulty_filter, speed and shuffle_r1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edco_core.config_rewarded import DifficultyFilterSection, ShuffleR1Section, SpeedSection
from edco_core.curriculum.base import Strategy, selection_of
from edco_core.curriculum.pass_rates import last_counts

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Selection


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
        rates = correct / np.maximum(n, 1)
        is_outside = (n > 0) & ~((settings.low < rates) & (rates < settings.high))
        chosen = np.lexsort((rng.random(size), is_outside))[:num_samples]
        num_inside = int((~is_outside).sum())
        chances = np.where(
            is_outside,
            max(0, num_samples - num_inside) / max(1, size - num_inside),
            min(1.0, num_samples / max(1, num_inside)),
        )
        ordinals = rng.permutation(chosen)
        return selection_of(
            evidence,
            ordinals,
            reason="pass_rate_band",
            facts={
                "rule": settings.type,
                "low": settings.low,
                "high": settings.high,
                "memory": settings.memory,
                "num_samples": num_samples,
                "pool_size": size,
                "num_known": int((n > 0).sum()),
                "num_inside": num_inside,
            },
            probabilities=chances[ordinals],
        )
