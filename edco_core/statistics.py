"""What a few seeds can tell: intervals of confidence and paired tests, as pure functions.

Seeds are few, so intervals are Student's t, and beside the t test stands one that assumes no
distribution: under the null hypothesis the sign of each paired difference is a coin toss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95

_MOST_FLIPPED = 20
"""Differences whose signs are tried in all ways; of more, so many ways are drawn."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval of confidence; no interval from fewer than two values."""

    n: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Paired:
    """The mean of paired differences, and how likely one as large is by chance (two-sided)."""

    difference: Estimate
    p_t: float | None
    """Student's paired t test; None from fewer than two pairs, and without any spread."""
    p_sign_flip: float | None
    """Exact permutation test, at least 2 / 2^n; None without pairs."""


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Mean and Student's t interval; the values are independent, one of each seed.

    Raises ValueError without values.
    """
    if not values:
        raise ValueError("there are no values to estimate a mean from")
    found = np.asarray(values, np.float64)
    mean = float(found.mean())
    if len(found) < 2:
        return Estimate(1, mean, None, None)
    error = float(found.std(ddof=1)) / math.sqrt(len(found))
    half = float(stats.t.ppf((1 + confidence) / 2, len(found) - 1)) * error
    return Estimate(len(found), mean, mean - half, mean + half)


def compare_paired(values: Sequence[float], reference: Sequence[float]) -> Paired:
    """Values against a reference, pair by pair (the same seed); both of one length."""
    differences = np.subtract(values, reference)
    found = estimate(differences.tolist())
    p_t = None
    # Differences that are equal but for their last bits have no spread: nothing can be tested.
    least = 1e-9 * float(np.abs(differences).max(initial=0.0))
    if found.n > 1 and (spread := float(differences.std(ddof=1))) > least:
        t = found.mean / (spread / math.sqrt(found.n))
        p_t = float(2 * stats.t.sf(abs(t), found.n - 1))
    return Paired(found, p_t, sign_flip_p(differences.tolist()))


def sign_flip_p(differences: Sequence[float]) -> float | None:
    """Share of all ways to flip the signs whose sum is at least as far from zero.

    All 2^n ways for up to 20 differences, else 2^20 of them drawn with a fixed seed, and the one
    that was seen.
    """
    n = len(differences)
    if n == 0:
        return None
    sizes = np.abs(differences)
    if n <= _MOST_FLIPPED:
        sums = np.zeros(1)
        for size in sizes:
            sums = np.concatenate([sums + size, sums - size])
    else:
        rng = np.random.default_rng(0)
        draws = [
            (2.0 * rng.integers(0, 2, (1 << 14, n)) - 1) @ sizes
            for _ in range(1 << (_MOST_FLIPPED - 14))
        ]
        sums = np.concatenate([*draws, [math.fsum(differences)]])
    # Sums in another order differ in their last bits; equal ones must count as equal.
    observed = abs(math.fsum(differences)) - 1e-12 * float(sizes.sum())
    return float((np.abs(sums) >= observed).mean())


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of several tests made together; None stays None and counts for nothing."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for done, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - done) * p))
        adjusted[i] = highest
    return adjusted
