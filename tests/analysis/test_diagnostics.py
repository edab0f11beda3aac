"""Losses, gradients and features against numbers worked out by hand, to the digit."""

import math

import numpy as np
import pytest
import torch as th

from sbbatch.analysis import diagnostics
from sbbatch.functional.divergence import gaussian_kl
from sbbatch.functional.noise_scale import gradient_noise_scale


def test_loss_variance_is_across_updates_and_not_within_them():
    losses = th.tensor([[1.0, 3.0], [2.0, 6.0], [4.0, 0.0]])  # means 2, 4, 2; variances 2, 8, 8
    assert diagnostics.loss_variance(losses) == pytest.approx(4 / 3)
    assert diagnostics.loss_variance(losses.mean(dim=1)) == pytest.approx(1.333333, abs=1e-6)
    assert diagnostics.loss_sample_variance(losses) == pytest.approx(6.0)
    assert math.isnan(diagnostics.loss_variance(losses[:1]))


def test_loss_variance_falls_with_the_batch_size():
    losses = np.random.RandomState(0).exponential(size=(20_000, 64))
    found = [diagnostics.loss_variance(th.tensor(losses[:, :size])) for size in (1, 4, 8, 32, 64)]
    assert found == pytest.approx([1.0202, 0.2522, 0.1248, 0.0312, 0.0158], abs=5e-5)
    assert np.polyfit(np.log([1, 4, 8, 32, 64]), np.log(found), 1)[0] == pytest.approx(-1, abs=0.02)


def test_norm_of_the_batch_gradient():
    weights = th.tensor([1.0, 0.0], requires_grad=True)
    inputs, targets = th.tensor([[1.0, 0.0], [0.0, 2.0]]), th.tensor([0.0, 1.0])
    # gradients of the samples [2, 0] and [0, -4], of the batch [1, -2]
    (gradient,) = th.autograd.grad((inputs @ weights - targets).square().mean(), weights)
    assert diagnostics.global_norm([gradient]) == pytest.approx(2.236068, abs=1e-6)
    assert diagnostics.global_norm([th.tensor([[1.0]]), th.tensor([2.0, 2.0])]) == pytest.approx(3.0)


def test_norm_of_a_representation_is_the_mean_of_norms():
    assert diagnostics.representation_norm(th.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 1.0]])) == pytest.approx(2.0)
    maps = th.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    assert diagnostics.representation_norm(maps) == pytest.approx(5.0)


RANDOM = np.maximum(np.random.RandomState(0).randn(64, 16) @ np.diag(2.0 ** -np.arange(16)), 0)


@pytest.mark.parametrize(
    ("features", "delta", "rank"),
    [
        (np.diag([10.0, 5.0, 1.0, 0.1]), 0.01, 3),
        (np.diag([10.0, 5.0, 1.0, 0.2]), 0.01, 4),
        (np.diag([10.0, 5.0, 1.0, 0.1, 0.05]), 0.01, 3),
        (np.diag([3.0, 2.0, 0.05]), 0.01, 2),
        (np.eye(4), 0.01, 4),
        (np.ones((6, 4)), 0.01, 1),
        (RANDOM, 0.01, 7),
        (RANDOM, 0.05, 4),
        (np.zeros((6, 4)), 0.01, 0),
    ],
)
def test_effective_rank(features, delta, rank):
    assert diagnostics.srank(th.tensor(features), delta) == rank


def test_dormant_neurons_of_a_dense_and_a_convolutional_layer():
    dense = th.tensor([[0.0, 2, 0, 1], [0, 4, 0.02, 3], [0, 0, 0.01, 2]])
    maps = th.zeros(1, 3, 2, 2)
    maps[0, 0, 0, 0], maps[0, 1] = 4.0, 0.02
    scores = [diagnostics.dormancy_scores(diagnostics.mean_activations(layer)) for layer in (dense, maps)]
    assert scores[0].tolist() == pytest.approx([0, 1.995012, 0.009975, 1.995012], abs=1e-6)
    assert scores[1].tolist() == pytest.approx([2.941176, 0.058824, 0], abs=1e-6)
    for tau, *shares in ((0, 1 / 4, 1 / 3, 2 / 7), (0.025, 2 / 4, 1 / 3, 3 / 7), (0.1, 2 / 4, 2 / 3, 4 / 7)):
        found = [diagnostics.dormant_fraction(layers, tau) for layers in (scores[:1], scores[1:], scores)]
        assert found == pytest.approx(shares)


def test_dormant_neurons_of_a_single_layer():
    layer = th.tensor([[0, 1, 2, 0.02], [0, 3, 0, 0], [0, 2, 1, 0.01]], dtype=th.float64)
    scores = diagnostics.dormancy_scores(diagnostics.mean_activations(layer))
    assert scores.tolist() == pytest.approx([0, 2.65780731, 1.32890365, 0.01328904], abs=1e-8)
    assert [diagnostics.dormant_fraction([scores], tau) for tau in (0, 0.025, 0.1)] == [0.25, 0.5, 0.5]


def test_units_behind_implicit_quantiles_are_averaged_over_fractions():
    assert diagnostics.mean_activations(th.tensor([[[1.0, 0.0], [3.0, 0.0]]])).tolist() == [2.0, 0.0]


def test_noise_scale_of_single_samples_and_of_pairs():
    samples = th.tensor([[1.0, 0], [3, 0], [2, 1], [2, -1]], dtype=th.float64)
    noise, signal = gradient_noise_scale(samples, 1)
    assert noise / signal == pytest.approx(0.363636, abs=1e-6)
    noise, signal = gradient_noise_scale(samples.reshape(2, 2, 2).mean(dim=0), 2)  # samples 1 and 3, 2 and 4
    assert (noise, signal, noise / signal) == pytest.approx((2.0, 3.5, 0.571429), abs=1e-6)


def test_churn_counts_states_whose_first_greedy_action_changes():
    before = th.tensor([[1.0, 2, 0], [3, 3, 1], [0, 0, 0], [5, 1, 2]])
    after = th.tensor([[2.0, 1, 0], [3, 4, 1], [0, 0, 0], [5, 1, 9]])
    assert diagnostics.greedy_disagreement(before, after) == 0.75
    assert diagnostics.greedy_disagreement(before, before) == 0.0


def test_divergence_of_gaussian_policies():
    new, old = (th.tensor([[0.1, 0.0]]), th.tensor([[1.0, 0.9]])), (th.zeros(1, 2), th.ones(1, 2))
    assert gaussian_kl(*new, *old).mean().item() == pytest.approx(0.0153605, abs=1e-7)


def test_distance_of_parameters_is_in_units_of_the_second():
    own, target = [th.tensor([3.0, 4.0]), th.tensor([[1.0]])], [th.tensor([0.0, 4.0]), th.tensor([[5.0]])]
    assert diagnostics.parameter_distance(own, target) == pytest.approx(5 / math.sqrt(41))
