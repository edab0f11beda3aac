"""Uniform and prioritized sampling: published numbers, frequencies, and what must never be drawn."""

import numpy as np
import pytest

from sbbatch.replay.samplers import PrioritizedSampler, UniformSampler

ALL = np.arange(4)
KL = np.array([0.5, 1.0, 2.0, 4.0])  # the absolute errors of the oracles


def prioritized(losses=None, n=4, **kwargs):
    """A sampler in which every index is stored, with given losses."""
    sampler = PrioritizedSampler(n, **kwargs)
    sampler.add(np.arange(n))
    if losses is not None:
        sampler.update_priorities(np.arange(n), np.asarray(losses, dtype=np.float32))
    return sampler


def probabilities(sampler):
    return sampler.tree.leaves / sampler.tree.total


def assert_drawn_in_proportion(sampler, expected, n_draws=16_000, batch_size=16):
    """Every frequency is within four standard deviations of a multinomial draw (a fixed seed: no luck)."""
    rng = np.random.default_rng(7)
    draws = np.concatenate([sampler.sample(batch_size, rng)[0] for _ in range(n_draws // batch_size)])
    frequencies = np.bincount(draws, minlength=len(expected)) / n_draws
    deviation = np.sqrt(expected * (1 - expected) / n_draws)
    assert (np.abs(frequencies - expected) <= 4 * deviation).all(), (frequencies, expected)


# ------------------------------------------------------------------------------------------------ the three dialects


def test_dopamines_priorities_are_square_roots_of_the_losses():
    # sqrt of [0.04, 0.25, 1, 2.25] = [0.2, 0.5, 1, 1.5], sum 3.2: P = [0.0625, 0.15625, 0.3125, 0.46875]
    # weights: 1/sqrt(P) over the largest = sqrt(0.0625 / P) = [1, 0.6324.., 0.4472.., 0.3651..]
    sampler = prioritized([0.04, 0.25, 1.0, 2.25], priority_exponent=0.5, importance_exponent=0.5, epsilon=1e-10)
    np.testing.assert_allclose(sampler.tree.leaves, [0.2, 0.5, 1.0, 1.5], atol=1e-6)
    np.testing.assert_allclose(probabilities(sampler), [0.0625, 0.15625, 0.3125, 0.46875], atol=1e-7)
    weights = sampler.weights(probabilities(sampler))
    np.testing.assert_allclose(weights, [1, 0.63245553, 0.4472136, 0.36514837], atol=1e-6)


@pytest.mark.parametrize(
    ("beta", "expected"),
    [(0.4, [1, 0.87055056, 0.75785828, 0.65975396]), (1.0, [1, 0.70710678, 0.5, 0.35355339])],
)
def test_the_rainbow_paper_corrects_with_a_rising_exponent(beta, expected):
    # sqrt of [0.5, 1, 2, 4] = [0.70710678, 1, 1.41421356, 2], sum 5.12132034; (P_0 / P)^beta = sqrt(0.5 / p)^beta
    sampler = prioritized(KL, priority_exponent=0.5, importance_exponent=beta)
    np.testing.assert_allclose(probabilities(sampler), [0.13807119, 0.19526215, 0.27614237, 0.39052429], atol=1e-7)
    np.testing.assert_allclose(sampler.weights(probabilities(sampler)), expected, atol=1e-6)


def test_btr_uses_a_small_exponent_for_both():
    sampler = prioritized(KL, priority_exponent=0.2, importance_exponent=0.2, epsilon=1e-6)
    np.testing.assert_allclose(sampler.tree.leaves, [0.87055091, 1.0000002, 1.14869847, 1.31950798], atol=1e-7)
    p = probabilities(sampler)
    np.testing.assert_allclose(p, [0.20064521, 0.23048077, 0.26475286, 0.30412116], atol=1e-7)
    weights = sampler.weights(p)
    np.testing.assert_allclose(weights, [1, 0.97265499, 0.9460577, 0.92018772], atol=1e-6)
    # What reaches the gradient: P w ~ p^(alpha (1 - beta)) = p^0.16
    effective = p * weights
    np.testing.assert_allclose(effective / effective.sum(), [0.21006812, 0.23470638, 0.26223439, 0.2929911], atol=1e-6)
    np.testing.assert_allclose(effective / effective.sum(), KL**0.16 / (KL**0.16).sum(), atol=1e-6)


# ---------------------------------------------------------------------------------------------------- frequencies


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0])
def test_transitions_are_drawn_in_proportion_to_their_priorities(alpha):
    expected = KL**alpha / (KL**alpha).sum()
    assert_drawn_in_proportion(prioritized(KL, priority_exponent=alpha, epsilon=1e-12), expected)


def test_draws_are_stratified_one_from_each_equal_part_of_the_mass():
    # Priorities 1, 2, 1: of four draws the first is always leaf 0, the last always leaf 2, the others leaf 1.
    sampler = prioritized([1.0, 2.0, 1.0], n=3, priority_exponent=1.0, epsilon=1e-12)
    rng = np.random.default_rng(1)
    for _ in range(100):
        np.testing.assert_array_equal(sampler.sample(4, rng)[0], [0, 1, 1, 2])


def test_alpha_zero_is_uniform_in_weights_and_frequencies():
    sampler = prioritized([0.0, 1e-3, 1.0, 1e6], priority_exponent=0.0, importance_exponent=0.7)
    np.testing.assert_array_equal(probabilities(sampler), [0.25] * 4)
    np.testing.assert_array_equal(sampler.sample(64, np.random.default_rng(0))[1], np.ones(64))
    assert_drawn_in_proportion(sampler, np.full(4, 0.25))


def test_uniform_sampling_is_uniform_and_its_weights_are_one():
    sampler = UniformSampler(4)
    sampler.add(ALL)
    assert_drawn_in_proportion(sampler, np.full(4, 0.25))
    indices, weights = sampler.sample(8, np.random.default_rng(0))
    np.testing.assert_array_equal(weights, np.ones(8))
    assert (indices.dtype, weights.dtype) == (np.int64, np.float32)


# ----------------------------------------------------------------------------------------------------- importance


def test_the_largest_weight_of_a_batch_is_one():
    sampler = prioritized(KL, priority_exponent=1.0, importance_exponent=1.0)
    for seed in range(20):
        indices, weights = sampler.sample(3, np.random.default_rng(seed))
        assert weights.max() == 1.0
        np.testing.assert_allclose(weights, KL[indices].min() / KL[indices], rtol=1e-6)  # w ~ 1 / p


def test_a_schedule_of_the_importance_exponent_follows_the_progress():
    # 0.4 at the start (progress 1) to 1 at the end (progress 0), as in the Rainbow paper
    sampler = prioritized(KL, priority_exponent=0.5, importance_exponent=lambda progress: 1.0 - 0.6 * progress)
    p = probabilities(sampler)
    for progress, expected in [(1.0, 0.65975396), (0.0, 0.35355339), (0.5, (1 / 8) ** (0.5 * 0.7))]:
        sampler.progress_remaining = progress
        assert sampler.weights(p)[-1] == pytest.approx(expected, abs=1e-6)


# ------------------------------------------------------------------------------------- a ring that is written anew


def test_new_transitions_get_the_largest_priority_ever_seen():
    sampler = PrioritizedSampler(8, priority_exponent=0.5, epsilon=0.0001)
    sampler.add(np.arange(4))
    sampler.update_priorities(ALL, np.array([0.1, 9.0, 0.2, 0.3]))
    sampler.update_priorities(ALL, np.full(4, 0.01))  # the largest one is gone, but not forgotten
    sampler.add(np.array([4, 5]))
    np.testing.assert_allclose(sampler.tree.leaves[4:6], np.sqrt(9.0001))
    np.testing.assert_array_equal(sampler.tree.leaves[6:], [0, 0])


def test_small_losses_do_not_lower_the_priority_of_new_transitions():
    sampler = PrioritizedSampler(8, priority_exponent=0.5)
    sampler.add(ALL)
    np.testing.assert_array_equal(sampler.tree.leaves[:4], np.ones(4))  # that of the first transitions
    sampler.update_priorities(ALL, np.full(4, 1e-4))
    sampler.add(np.array([4]))
    assert sampler.tree.leaves[4] == 1.0


@pytest.mark.parametrize("sampler_class", [UniformSampler, PrioritizedSampler])
def test_a_removed_transition_is_never_drawn(sampler_class):
    sampler, rng = sampler_class(10), np.random.default_rng(3)
    sampler.add(np.arange(8))
    sampler.remove(np.arange(3))
    assert set(sampler.sample(500, rng)[0]) == {3, 4, 5, 6, 7}
    sampler.add(np.array([8, 9]))
    sampler.add(np.array([0, 1]))  # round the ring
    sampler.remove(np.array([3, 4]))
    assert set(sampler.sample(500, rng)[0]) == {5, 6, 7, 8, 9, 0, 1}


def test_a_transition_removed_before_its_loss_arrives_stays_removed():
    sampler = prioritized(KL)
    sampler.remove(np.array([1]))
    sampler.update_priorities(np.array([1, 2]), np.array([100.0, 1.0]))
    assert sampler.tree.leaves[1] == 0.0
    assert 1 not in sampler.sample(1000, np.random.default_rng(0))[0]


def test_a_loss_of_zero_can_still_be_drawn():
    sampler = prioritized([0.0, 0.0, 0.0, 0.0])
    assert set(sampler.sample(200, np.random.default_rng(0))[0]) == set(range(4))


@pytest.mark.parametrize("loss", [np.nan, np.inf, -0.1])
def test_a_loss_that_is_no_priority_is_refused(loss):
    sampler = prioritized(KL)
    before = sampler.tree.leaves.copy()
    with pytest.raises(FloatingPointError, match="a priority must be finite and >= 0"):
        sampler.update_priorities(ALL, np.array([1.0, loss, 1.0, 1.0]))
    np.testing.assert_array_equal(sampler.tree.leaves, before)


@pytest.mark.parametrize("sampler_class", [UniformSampler, PrioritizedSampler])
def test_a_restored_sampler_draws_the_same(sampler_class):
    sampler, copy = sampler_class(300), sampler_class(300)
    sampler.add(np.arange(200))
    sampler.remove(np.arange(50))
    sampler.update_priorities(np.arange(50, 150), np.random.default_rng(0).random(100))
    copy.set_state(sampler.get_state())
    for _ in range(3):
        for one in (sampler, copy):
            one.add(np.arange(200, 210))
        first, second = (one.sample(64, np.random.default_rng(5)) for one in (sampler, copy))
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])
