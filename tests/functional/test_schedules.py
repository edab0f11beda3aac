"""Exploration schedules against the values of the published formulas."""

import pytest

from sbbatch.functional.schedules import dopamine_epsilon, geometric_epsilon, linear_epsilon


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1), (20_000, 1), (20_001, 0.99999604), (82_500, 0.7525), (145_000, 0.505), (270_000, 0.01), (300_000, 0.01)],
)
def test_dopamine_epsilon_stays_one_during_warmup_and_then_falls_linearly(step, expected):
    # 20 001: 0.01 + 0.99 * 249 999 / 250 000 = 0.99999604
    assert dopamine_epsilon(step, 20_000, 250_000, 0.01) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (64, 0.99996832),
        (200_000, 0.905789021),
        (1_000_000, 0.610465278),
        (2_000_000, 0.374200556),
        (4_000_000, 0.143981863),
        (25_000_000, 0.010003689),
    ],
)
def test_geometric_epsilon_follows_the_released_code_of_btr(step, expected):
    assert geometric_epsilon(step, 2_000_000, 0.01) == pytest.approx(expected, abs=1e-8)


def test_geometric_epsilon_equals_the_recursion_it_sums_up():
    epsilon = 1.0
    for _ in range(1000):
        epsilon = max(epsilon - (epsilon - 0.01) / 500, 0.01)
    assert geometric_epsilon(1000, 500, 0.01) == pytest.approx(epsilon, rel=1e-12)


@pytest.mark.parametrize(("step", "expected"), [(128, 0.999936064), (1_000_000, 0.5005), (2_000_000, 0.001)])
def test_linear_epsilon_over_the_first_tenth_of_training_is_pqns(step, expected):
    # 128: 1 - 0.999 * 128 / 2e6 = 0.999936064
    assert linear_epsilon(step / 2e7, 0.1, 1.0, 0.001) == pytest.approx(expected, abs=1e-9)


def test_linear_epsilon_without_decay_time_is_the_final_value_at_once():
    assert linear_epsilon(0.0, 0.0, 1.0, 0.05) == 0.05
