"""VCRL: the samples whose answers varied most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edco_core.config_rewarded import VcrlSection
from edco_core.curriculum.base import Candidate, Explanation, Strategy, highest, selection_of
from edco_core.curriculum.pass_rates import last_answers, last_counts

if TYPE_CHECKING:
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats, Ints, Selection

UNKNOWN = 2 / 3
"""Value of a sample of which nothing is known: what a chance drawn evenly from 0 to 1 makes the
variance on average, 1/6, relative to the highest that many answers can have, 1/4."""


def relative_variance(n: Ints, correct: Ints) -> Floats:
    """k (G - k) / (G (G - 1)) of k correct ones of G answers, relative to its maximum (VCRL).

    ``UNKNOWN`` for fewer than two answers.
    """
    half = n // 2
    values: Floats = correct * (n - correct) / np.maximum(half * (n - half), 1)
    return np.where(n < 2, UNKNOWN, values)


class VcrlStrategy(Strategy[VcrlSection]):
    """The N samples of highest variance of rewards inside a group (VCRL, arXiv 2509.19803).

    The value of a sample is that of the last interval that asked it, for ``memory`` intervals.
    Departures: the paper filters what a step has sampled by a threshold and keeps a bank of good
    groups, we select before anything is sampled; samples of which nothing is known are placed
    among the others by what can be expected of them, which the paper leaves open; equal values
    are drawn.
    """

    def choose(self, evidence: Evidence, num_samples: int, rng: np.random.Generator) -> Selection:
        n, correct = last_counts(evidence, self.settings.memory)
        values = relative_variance(n, correct)
        shuffled = rng.permutation(len(values))
        chosen = shuffled[highest(values[shuffled], num_samples)]
        return selection_of(
            evidence,
            rng.permutation(chosen),
            reason="reward_variance",
            facts={
                "rule": "vcrl",
                "memory": self.settings.memory,
                "num_samples": num_samples,
                "pool_size": len(values),
                "num_known": int((n >= 2).sum()),
                "least_value": float(values[chosen].min()),
            },
        )

    @classmethod
    def explain(cls, facts: dict[str, Any], sample: Candidate) -> Explanation:
        n, correct = last_answers(sample, facts["memory"])
        value = float(relative_variance(np.array([n]), np.array([correct]))[0])
        how = "among" if sample.is_selected else "not among"
        how += f" the {facts['num_samples']} of highest variance of rewards, from "
        how += f"{facts['least_value']:.3f}: its own {value:.3f}, "
        how += "expected of what is not known" if n < 2 else f"{correct} of {n} answers right"
        return Explanation(how)
