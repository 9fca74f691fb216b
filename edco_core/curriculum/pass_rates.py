"""What earlier intervals tell of how often each sample is answered correctly.

Shapes: P = samples of the pool; arrays are by ordinal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edco_core.records import Beliefs

if TYPE_CHECKING:
    from edco_core.curriculum.base import Candidate
    from edco_core.curriculum.evidence import Evidence
    from edco_core.records import Floats, Ints

Prior = tuple[float, float]
"""alpha and beta of a sample of which nothing is known."""


def counts_at(evidence: Evidence, interval: int) -> tuple[Ints, Ints]:
    """Shapes (P,): answers to each sample in an earlier interval, and those that were correct.

    Those to prompts that were passed over count as well.
    """
    size = len(evidence.scores)
    groups = evidence.rollouts_at(interval)
    if groups is None:
        return np.zeros(size, np.int64), np.zeros(size, np.int64)
    found = (
        np.bincount(groups.ordinals, weights=each, minlength=size).astype(np.int64)
        for each in (groups.n, groups.n_correct)
    )
    return next(found), next(found)


def last_counts(evidence: Evidence, memory: int) -> tuple[Ints, Ints]:
    """The same of the last interval that asked each sample, of ``memory`` intervals; else zeros."""
    n, correct = (np.zeros(len(evidence.scores), np.int64) for _ in range(2))
    for interval in range(max(0, evidence.interval - memory), evidence.interval):
        n_then, correct_then = counts_at(evidence, interval)
        n, correct = (
            np.where(n_then > 0, now, before)
            for now, before in ((n_then, n), (correct_then, correct))
        )
    return n, correct


def last_answers(sample: Candidate, memory: int) -> tuple[int, int]:
    """The same of one sample, as the ledger tells it afterwards."""
    asked = [each for each in sample.answers[-memory:] if each is not None]
    return asked[-1] if asked else (0, 0)


def beliefs_now(evidence: Evidence, prior: Prior, discount: float) -> tuple[Floats, Floats]:
    """alpha and beta of every sample, from the answers of all earlier intervals, oldest first.

    Whoever had them sampled.  At each interval alpha <- discount alpha + (1 - discount) alpha_0 +
    correct, and beta with the wrong ones (MoPPS, arXiv 2507.04632), for samples that were not asked
    as well: the model has moved on for all.
    """
    alpha, beta = (np.full(len(evidence.scores), each) for each in prior)
    for interval in range(evidence.interval):
        alpha, beta = (
            start + discount * (each - start)  # exactly the prior where that is all
            for each, start in zip((alpha, beta), prior, strict=True)
        )
        n, correct = counts_at(evidence, interval)
        alpha, beta = alpha + correct, beta + n - correct
    return alpha, beta


def to_keep(alpha: Floats, beta: Floats, prior: Prior) -> Beliefs:
    """Those that are not the prior."""
    ordinals = np.flatnonzero((alpha != prior[0]) | (beta != prior[1]))
    return Beliefs(ordinals, alpha[ordinals], beta[ordinals])


def told(sample: Candidate, prior: Sequence[float]) -> str:
    """What was believed of a sample, for people."""
    if sample.belief is None:
        return "nothing was known of its answers"
    alpha, beta = sample.belief
    weight = alpha + beta - sum(prior)
    return (
        f"believed to be answered right with {alpha / (alpha + beta):.3f}, by {weight:.1f} answers"
    )
