"""AdaRFT: a target difficulty that follows the mean reward."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config_rewarded import AdarftSection
from edco_core.curriculum.base import (
    Candidate,
    Explanation,
    Strategy,
    highest,
    rank_descending,
    selection_of,
)

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Selection


class AdarftStrategy(Strategy[AdarftSection]):
    """The N samples nearest to a target difficulty T (AdaRFT, arXiv 2504.05520).

    T <- clip(T + eta tanh(alpha (mean reward - beta)), 0, 100).  Departures: T moves once per
    interval, by the mean reward of all its answers; and a sample's difficulty, which the paper
    estimates beforehand with another model, is the percentile (0 to 100) of its score at the first
    interval.  Of equally near ones the first by sample id.
    """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        settings = self.settings
        target, reward = float(evidence.state.get("target", settings.start)), None
        sampled = evidence.rollouts_at(evidence.interval - 1) if evidence.interval else None
        if sampled is not None:
            reward = float(np.average(sampled.reward_mean, weights=sampled.n))
            move = math.tanh(settings.sensitivity * (reward - settings.target_reward))
            target = min(100.0, max(0.0, target + settings.step_size * move))
        first_scores = evidence.scores_at(0)
        _, ranks = rank_descending(first_scores)
        difficulties = 100 * (len(ranks) - ranks) / max(1, len(ranks) - 1)
        nearest = highest(-np.abs(difficulties - target), num_samples)
        return selection_of(
            evidence,
            rng.permutation(nearest),
            reason="near_difficulty",
            facts={
                "rule": "adarft",
                "target": target,
                "mean_reward": reward,
                "num_samples": num_samples,
                "pool_size": len(ranks),
                "lowest": float(first_scores[nearest].min()),
                "highest": float(first_scores[nearest].max()),
            },
            state={"target": target},
        )

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        how = "among" if sample.is_selected else "not among"
        how += f" the {facts['num_samples']} nearest to difficulty {facts['target']:.1f} of 100, "
        how += f"first scores from {facts['lowest']:.4f} to {facts['highest']:.4f}: its own was "
        return Explanation(f"{how}{sample.scores[0]:.4f}")
