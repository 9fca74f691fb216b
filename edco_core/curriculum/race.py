"""A draw without replacement by weights: Gumbel top-N, and each one's chance in it.

A race of exponential clocks with rates exp(logit): the N first to ring are drawn.  With many
samples the N-th rings at a nearly fixed time t, so a sample is in with probability
1 - exp(-rate t).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edco_core.curriculum.base import highest

if TYPE_CHECKING:
    from edco_core.records import Floats, Ints


NEVER = -1e9
"""ln t of a race that is over before anybody has rung."""


def race(logits: Floats, num: int, rng: np.random.Generator) -> tuple[Ints, float | None]:
    """Who is drawn, the first to ring first, and ln t; None where everybody is drawn."""
    keys = logits + rng.gumbel(size=len(logits))
    return highest(keys, num), race_time(logits, num)


def chances_to_win(logits: Floats, time: float | None) -> Floats:
    """The chance of each to be drawn in a race until that ln t; None: it ends with nobody left."""
    if time is None:
        return np.ones_like(logits)
    chances: Floats = -np.expm1(-np.exp(np.minimum(logits + time, 50.0)))
    return chances


def race_time(logits: Floats, num: int) -> float | None:
    """ln t with sum over samples of 1 - exp(-exp(logit) t) = num, by Newton's method, kept between
    two bounds: far from the solution the sum is so flat or steep that a step leads anywhere.
    """
    if num >= len(logits):
        return None
    if num == 0:
        return NEVER
    top = float(logits.max())
    # Too early, or just right: as if chances were as small as rate times t.
    low = math.log(num) - top - math.log(float(np.exp(logits - top).sum()))
    # Too late: the num + 1 highest have rung by then, but for e^-20 of each.
    high = max(low, 3.0 - float(-np.partition(-logits, num)[num]))
    time = low
    for _ in range(200):
        rates = np.exp(np.minimum(logits + time, 50.0))
        left = np.exp(-rates)
        expected = len(logits) - float(left.sum())
        if math.isclose(expected, num, rel_tol=1e-9):
            break
        low, high = (time, high) if expected < num else (low, time)
        slope = float((rates * left).sum()) / expected
        time = time + math.log(num / expected) / slope if slope > 0 else math.inf
        if not low < time < high:
            time = (low + high) / 2
        if high - low < 1e-12 * max(1.0, abs(low)):
            break
    return time
