"""Agreement of two scores, against values worked out by hand or by pandas."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from edco_core.scoring.fidelity import fidelity, kendall, resampled, spearman, top_overlap


def test_ranks_are_correlated_as_pandas_does_ties_included() -> None:
    generator = np.random.default_rng(0)
    first = generator.integers(0, 20, size=300).astype(float)
    second = first + generator.normal(scale=6, size=300).round()
    frame = pd.DataFrame({"a": first, "b": second}).rank()
    assert spearman(first, second) == pytest.approx(frame["a"].corr(frame["b"]))


def test_kendall_counts_pairs_in_order() -> None:
    first, second = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])
    assert kendall(first, second) == pytest.approx((5 - 1) / 6)
    # One tie in the first: 5 untied pairs there, 6 in the second; 4 agree, 1 does not.
    assert kendall(np.array([1.0, 2, 3, 3]), second) == pytest.approx(3 / math.sqrt(5 * 6))
    assert kendall(first, -first) == -1.0


def test_overlap_is_of_what_would_be_selected() -> None:
    first = np.arange(8.0)
    assert top_overlap(first, first**3, 0.25) == 1.0
    assert top_overlap(first, -first, 0.5) == 0.0
    assert top_overlap(first, np.array([0.0, 9, 2, 3, 4, 5, 6, 7]), 0.25) == 0.5


def test_a_constant_score_has_no_order_to_keep() -> None:
    found = fidelity(np.ones(4), np.arange(4.0))
    assert math.isnan(found.spearman)
    assert math.isnan(found.kendall)
    assert found.n == 4


def test_resampling_reaches_as_far_as_other_samples_of_the_same_pool_would() -> None:
    generator = np.random.default_rng(1)

    def sample() -> tuple[np.ndarray, np.ndarray]:
        dear = generator.normal(size=200)
        return dear + generator.normal(size=200), dear

    others = [spearman(*sample()) for _ in range(300)]
    low, high = np.quantile(others, [0.025, 0.975])
    reach = resampled(*sample())
    assert reach.spearman[1] - reach.spearman[0] == pytest.approx(high - low, rel=0.35)
    assert reach.top_overlap[0] < reach.top_overlap[1] <= 1
    assert resampled(*(np.arange(9.0),) * 2).spearman == pytest.approx((1.0, 1.0))
