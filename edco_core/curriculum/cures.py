"""CurES: which prompts, and how many answers to each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edco_core.records import Floats, Ints


def answer_weights(chances: Floats, terms: Floats | None = None) -> Floats:
    """sigma of each prompt (arXiv 2510.01037): how much the gradient of one answer varies.

    ``chances`` (P,): p, to answer correctly.  ``terms`` (P, 3): mean |g|^2 of correct answers C and
    of wrong ones W, and the squared gap D between their mean gradients.  Then sigma^2 =
    p (1-p)^2 C + p^2 (1-p) W - p^2 (1-p)^2 D, never below 0; without terms sqrt(p (1-p)), which is
    the same with C = W = 1 and D = 0.
    """
    p, q = chances, 1 - chances
    if terms is None:
        terms = np.tile([1.0, 1.0, 0.0], (len(p), 1))
    correct, wrong, gap = terms.T
    variance = p * q**2 * correct + p**2 * q * wrong - (p * q) ** 2 * gap
    sigma: Floats = np.sqrt(np.maximum(variance, 0.0))
    return sigma


def split(total: int, weights: Floats, at_least: Ints) -> Ints:
    """Whole numbers that sum to ``total``, as near to proportional to the weights as can be.

    None is below its least, and those above theirs share what is left by their weights; fractions
    are rounded by largest remainder, the first of equal ones.  Weights that are all zero count as
    equal.
    """
    assert at_least.sum() <= total
    is_free = np.ones(len(weights), bool)
    while True:
        left = total - at_least[~is_free].sum()
        free = weights[is_free] if weights[is_free].sum() > 0 else np.ones(is_free.sum())
        shares = left * free / free.sum() if len(free) else free
        is_short = shares < at_least[is_free]
        if not is_short.any():
            break
        is_free[np.flatnonzero(is_free)[is_short]] = False
    exact = at_least.astype(np.float64)
    exact[is_free] = shares
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts
