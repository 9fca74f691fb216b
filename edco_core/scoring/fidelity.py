"""How well cheap scores keep the order of dear ones: pure maths on two arrays (n,)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edco_core.records import Floats


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Agreement of two scores of the same samples."""

    spearman: float
    kendall: float
    top_overlap: float
    """Share of the samples one would select that the other selects, too."""
    top_share: float
    n: int


def fidelity(cheap: Floats, dear: Floats, *, top_share: float = 0.25) -> Fidelity:
    """All three at once; ``top_share`` is the part of the pool that would be selected."""
    return Fidelity(
        spearman(cheap, dear), kendall(cheap, dear), top_overlap(cheap, dear, top_share),
        top_share, len(cheap),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reach:
    """Intervals that hold 95 % of what other samples of the same pool would have shown."""

    spearman: tuple[float, float]
    top_overlap: tuple[float, float]


def resampled(
    cheap: Floats, dear: Floats, *, top_share: float = 0.25, num_draws: int = 400, seed: int = 0
) -> Reach:
    """Bootstrap: the samples drawn anew with replacement, and the middle 95 % of the outcomes."""
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(cheap), size=len(cheap)) for _ in range(num_draws)]
    correlations = [spearman(cheap[draw], dear[draw]) for draw in draws]
    overlaps = [top_overlap(cheap[draw], dear[draw], top_share) for draw in draws]
    return Reach(_middle(correlations), _middle(overlaps))


def _middle(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(np.nan_to_num(values), [0.025, 0.975])
    return float(low), float(high)


def spearman(first: Floats, second: Floats) -> float:
    """Correlation of ranks, ties at their mean rank; NaN where one is constant."""
    return _correlation(_mean_ranks(first), _mean_ranks(second))


def kendall(first: Floats, second: Floats) -> float:
    """Kendall's tau-b: pairs in the same order minus pairs in the other, ties corrected.

    Compares all pairs, n^2 / 2 of them: for samples of thousands.  NaN where one is constant.
    """
    agreement = untied_first = untied_second = 0
    for i in range(len(first) - 1):
        signs_first = np.sign(first[i + 1 :] - first[i])
        signs_second = np.sign(second[i + 1 :] - second[i])
        agreement += int(np.dot(signs_first, signs_second))
        untied_first += int(np.count_nonzero(signs_first))
        untied_second += int(np.count_nonzero(signs_second))
    if not untied_first or not untied_second:
        return math.nan
    return agreement / math.sqrt(untied_first * untied_second)


def top_overlap(first: Floats, second: Floats, share: float) -> float:
    """Of the highest ``share`` of one, the part that is in that of the other; ties by position."""
    num = max(1, round(share * len(first)))
    chosen = (set(np.argsort(-scores, kind="stable")[:num].tolist()) for scores in (first, second))
    return len(set.intersection(*chosen)) / num


def _mean_ranks(scores: Floats) -> Floats:
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    ranks: Floats = (ends - (sizes - 1) / 2)[group]
    return ranks


def _correlation(first: Floats, second: Floats) -> float:
    first, second = first - first.mean(), second - second.mean()
    spread = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / spread if spread else math.nan
