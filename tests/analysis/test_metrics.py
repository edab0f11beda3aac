"""Aggregates against values of rliable 1.2.0, and intervals against exact distributions."""

import numpy as np
import pytest

from sbbatch.analysis.metrics import (
    describe_returns,
    iqm,
    running_mean,
    smoothing_window,
    stratified_bootstrap_interval,
    student_interval,
)

X = np.array([[0.1, 0.5, 2.0], [0.2, 0.7, 1.0], [0.3, 0.6, 4.0], [0.4, 0.9, 0.5]])


@pytest.mark.parametrize(
    ("values", "expected"),
    [(X, 0.6), (np.arange(10), 4.5), (np.arange(8), 3.5), (np.array([0, 1, 2, 3, 100]), 2.0)],
)
def test_the_interquartile_mean_drops_a_quarter_at_each_end(values, expected):
    assert iqm(values) == pytest.approx(expected)


def test_two_runs_give_an_interval_over_both():
    # The resampled mean of [0, 1] is 0, 0.5, 0.5 or 1 with equal probability.
    assert stratified_bootstrap_interval(np.array([[0.0], [1.0]]), np.mean, 2_000) == (0.0, 1.0)


def test_equal_runs_of_a_task_add_no_width():
    assert stratified_bootstrap_interval(np.full((3, 2), 0.7), np.mean, 100) == pytest.approx((0.7, 0.7))


def test_tasks_are_resampled_independently_of_each_other():
    # One task's runs are 0 and 1, the other's 1 and 0: drawn together, row by row, every mean would be 0.5.
    low, high = stratified_bootstrap_interval(np.array([[0.0, 1.0], [1.0, 0.0]]), np.mean, 2_000)
    assert (low, high) == (0.0, 1.0)


def test_a_seed_always_gives_the_same_interval():
    # As resampled one by one, which published tables were made by.
    rng = np.random.default_rng(0)
    values = [iqm(np.take_along_axis(X, rng.integers(4, size=X.shape), axis=0)) for _ in range(1_200)]
    assert stratified_bootstrap_interval(X, n_resamples=1_200) == pytest.approx(np.quantile(values, [0.025, 0.975]))


def test_the_interval_of_a_few_episodes_is_students():
    # Returns 1 and 3: mean 2, standard error sqrt(2) / sqrt(2) = 1, quantile for one degree of freedom 12.706.
    mean, half = student_interval(np.array([[1.0, 3.0]]))
    assert (mean[0], half[0]) == pytest.approx((2.0, 12.706), rel=1e-4)
    assert np.isnan(student_interval(np.array([[5.0], [6.0]]))[1]).all()  # of one value nobody knows


@pytest.mark.parametrize(
    ("returns", "text"),
    [([1.0, 3.0], "return 2.0 ± 1.4 (2 episodes)"), ([5.0], "return 5.0 (1 episode)"), ([2, 2, 2], "return 2.0 ± 0.0")],
)
def test_a_deviation_is_that_of_a_sample(returns, text):
    assert describe_returns(returns).startswith(text)


def test_running_means_are_over_twenty_episodes_less_of_a_short_run_and_more_of_a_long_one():
    assert [smoothing_window(n) for n in (1, 4, 20, 100, 800, 4000)] == [1, 1, 4, 20, 20, 100]


def test_the_running_mean_counts_the_last_values_only():
    assert running_mean(np.array([1.0, 2.0, 3.0, 4.0]), 2).tolist() == [1.0, 1.5, 2.5, 3.5]
