"""Comparisons against values of rliable 1.2.0, and intervals against exact distributions."""

import numpy as np
import pytest

from sbbatch.analysis.comparison import (
    comparison_interval,
    iqm_difference,
    performance_profile,
    probability_of_improvement,
)

X = np.array([[0.1, 0.5, 2.0], [0.2, 0.7, 1.0], [0.3, 0.6, 4.0], [0.4, 0.9, 0.5]])
Y = np.array([[0.0, 0.6, 2.5], [0.2, 0.4, 1.5], [0.1, 0.3, 3.0], [0.5, 0.8, 0.1]])


def test_the_probability_of_improvement_counts_pairs_and_halves_ties():
    assert probability_of_improvement(X, Y) == pytest.approx(0.614583, abs=1e-6)
    assert probability_of_improvement(Y, X) == pytest.approx(1 - 0.614583, abs=1e-6)
    ties = np.array([[1.0], [2.0], [2.0]]), np.array([[2.0], [0.0], [2.0]])
    assert probability_of_improvement(*ties) == pytest.approx(0.555556, abs=1e-6)
    assert probability_of_improvement(X, X[:2] - 10) == 1.0  # numbers of runs may differ
    assert probability_of_improvement(np.stack([X, Y]), np.stack([Y, X])) == pytest.approx(
        [0.614583, 0.385417], abs=1e-6
    )


def test_the_difference_of_interquartile_means():
    assert iqm_difference(X, np.arange(8.0)[:, None]) == pytest.approx(0.6 - 3.5)


def test_a_profile_counts_what_is_above():
    shares = performance_profile(X, np.array([0.5, 1.0, 2.0]))  # of 12 runs, of which some are just there
    assert shares == pytest.approx([6 / 12, 2 / 12, 1 / 12])


def test_both_sides_are_resampled_independently():
    # Means of [0, 1] drawn twice are 0, 0.5 or 1; the difference of two of them reaches -1 and 1 once in sixteen each.
    both = np.array([[0.0], [1.0]])
    assert comparison_interval(both, both, iqm_difference, 4_000) == (-1.0, 1.0)
    assert comparison_interval(both + 2, np.zeros((5, 1)), iqm_difference, 4_000) == (2.0, 3.0)
    assert comparison_interval(X, Y, iqm_difference, 500) == comparison_interval(X, Y, iqm_difference, 500)
