"""Intervals and tests over seeds, against numbers worked out by hand or taken from tables."""

from __future__ import annotations

import math

import pytest

from edco_core.statistics import compare_paired, estimate, holm, sign_flip_p


def test_a_share_of_drawn_flips_is_never_nothing() -> None:
    p = sign_flip_p([1.0] * 25)
    assert p is not None
    assert 0 < p <= 2**-19


def test_the_interval_is_students_t_of_the_tables() -> None:
    found = estimate([1.0, 2.0, 3.0])
    # Standard deviation 1, and 4.303 is the quantile of two degrees of freedom.
    half = 4.302653 / math.sqrt(3)
    assert (found.n, found.mean) == (3, 2.0)
    assert found.low == pytest.approx(2 - half, abs=1e-6)
    assert found.high == pytest.approx(2 + half, abs=1e-6)


def test_one_seed_has_a_mean_and_no_interval() -> None:
    found = estimate([0.5])
    assert (found.n, found.mean, found.low, found.high) == (1, 0.5, None, None)


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_the_paired_t_test_looks_at_differences_and_not_at_the_seeds_own_spread() -> None:
    # Differences 1, 2, 3: t = 2 / (1 / sqrt 3) = 3.4641 with 2 degrees of freedom,
    # whose two-sided p is 1 - t / sqrt(t^2 + 2).
    t = 2 * math.sqrt(3)
    found = compare_paired([11.0, 102.0, 1003.0], [10.0, 100.0, 1000.0])
    assert found.difference.mean == 2.0
    assert found.p_t == pytest.approx(1 - t / math.sqrt(t * t + 2), abs=1e-12)


def test_differences_without_spread_have_no_t_test_but_a_permutation_test() -> None:
    found = compare_paired([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    assert found.p_t is None
    assert found.p_sign_flip == 2 / 8


def test_one_pair_has_no_t_test() -> None:
    assert compare_paired([1.0], [0.0]).p_t is None


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),  # only +++ and --- come as far
        ([1.0, 2.0, -3.0], 1.0),  # the sum is zero
        ([-1.0, 2.0, 3.0], 4 / 8),  # 4: also 6, and both mirrored
        ([0.1, 0.2, 0.3, 0.4, 0.5], 2 / 32),
        ([0.0, 0.0], 1.0),
    ],
)
def test_the_permutation_test_counts_all_ways_to_flip_the_signs(
    differences: list[float], p: float
) -> None:
    assert sign_flip_p(differences) == p


def test_the_permutation_test_of_nothing_is_none() -> None:
    assert sign_flip_p([]) is None


def test_many_seeds_are_permuted_by_a_draw_that_is_always_the_same() -> None:
    differences = [(-1) ** i * (0.1 + 0.0031 * i) + 0.02 for i in range(24)]
    first = sign_flip_p(differences)
    assert first == sign_flip_p(differences)
    # A sum of many signed sizes is near normal.
    spread = math.sqrt(sum(each**2 for each in differences))
    assert first == pytest.approx(
        math.erfc(abs(sum(differences)) / spread / math.sqrt(2)), abs=0.02
    )


def test_holm_multiplies_by_the_tests_that_are_left_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == [0.03, 0.06, 0.06]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([None, 0.01]) == [None, 0.01]
    assert holm([]) == []


def test_differences_that_are_equal_but_for_rounding_cannot_be_tested() -> None:
    found = compare_paired([0.7, 0.52, 0.9], [0.68, 0.5, 0.88])
    assert found.p_t is None
    assert found.difference.mean == pytest.approx(0.02)
