"""A draw without replacement by weights: Gumbel top-N, and each one's chance in it.

A race of exponential clocks with rates exp(logit): the N first to ring are drawn.  With many
samples the N-th rings at a nearly fixed time t, so a sample is in with probability
1 - exp(-rate t).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edco_core.records import Floats, Ints


def race(logits: Floats, num: int, rng: np.random.Generator) -> tuple[Ints, float | None]:
    """Who is drawn, the first to ring first, and ln t; None where everybody is drawn."""
    keys = logits + rng.gumbel(size=len(logits))
    return np.argsort(-keys, kind="stable")[:num], _race_time(logits, num)


def chances_to_win(logits: Floats, race_time: float | None) -> Floats:
    """The chance of each to be drawn in a race until that ln t."""
    if race_time is None:
        return np.ones_like(logits)
    chances: Floats = -np.expm1(-np.exp(np.minimum(logits + race_time, 50.0)))
    return chances


def _race_time(logits: Floats, num: int) -> float | None:
    """ln t with sum over samples of 1 - exp(-exp(logit) t) = num, by bisection."""
    if num >= len(logits):
        return None
    low, high = -float(logits.max()) - 60.0, -float(logits.min()) + 60.0
    while high - low > 1e-9 * max(1.0, abs(low), abs(high)):
        middle = (low + high) / 2
        expected = float(chances_to_win(logits, middle).sum())
        low, high = (middle, high) if expected < num else (low, middle)
        if math.isclose(expected, num, rel_tol=1e-9):
            break
    return (low + high) / 2
