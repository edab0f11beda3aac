"""The sorted quantile Huber loss against the pairwise formula and hand-worked numbers."""

import pytest
import torch as th

from sbbatch.functional.distributions import (
    absolute_td_error,
    categorical_projection,
    cosine_features,
    midpoint_taus,
    quantile_huber_loss,
)


def pairwise_loss(quantiles, targets, taus, kappa=1.0):
    """The published formula, pair by pair."""
    u = targets.unsqueeze(1) - quantiles.unsqueeze(2)  # (batch, own, target)
    huber = th.where(u.abs() <= kappa, 0.5 * u**2, kappa * (u.abs() - 0.5 * kappa))
    weights = (taus.unsqueeze(-1) - (u.detach() < 0).to(u.dtype)).abs()
    return (weights * huber / kappa).mean(dim=2).sum(dim=1)


def test_midpoints_lie_in_the_middle_of_equal_parts():
    assert midpoint_taus(4).tolist() == [0.125, 0.375, 0.625, 0.875]


def test_loss_of_four_quantiles_worked_by_hand():
    quantiles = th.tensor([[-0.5, 0.2, 1.0, 2.0]], dtype=th.float64, requires_grad=True)
    targets = th.tensor([[0.0, 1.5, -1.0, 3.0]], dtype=th.float64)
    # first own quantile, tau 0.125: u = [0.5, 2, -0.5, 3.5], Huber [0.125, 1.5, 0.125, 3],
    # weights [0.125, 0.125, 0.875, 0.125]
    # -> (0.015625 + 0.1875 + 0.109375 + 0.375) / 4 = 0.171875; the others 0.403125, 0.44140625, 0.23828125
    loss = quantile_huber_loss(quantiles, targets, midpoint_taus(4).double())
    assert loss.item() == pytest.approx(1.2546875, abs=1e-12)
    assert (loss.item() + 1e-10) ** 0.5 == pytest.approx(1.120128341, abs=1e-9)


@pytest.mark.parametrize("kappa", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(("n", "m"), [(1, 7), (64, 32), (200, 200)])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_value_and_gradient_equal_the_pairwise_formula(n, m, kappa, offset):
    generator = th.Generator().manual_seed(n * m)
    quantiles = th.randn(5, n, generator=generator, dtype=th.float64) * 3 + offset
    targets = th.randn(5, m, generator=generator, dtype=th.float64) * 3 + offset
    taus = th.rand(5, n, generator=generator, dtype=th.float64)
    weights = th.rand(5, generator=generator, dtype=th.float64)
    results = []
    for loss_function in (quantile_huber_loss, pairwise_loss):
        own = quantiles.clone().requires_grad_()
        loss = loss_function(own, targets, taus, kappa)
        (gradient,) = th.autograd.grad((weights * loss).sum(), own)
        results.append((loss, gradient))
    th.testing.assert_close(results[0][0], results[1][0], rtol=1e-7, atol=1e-7)
    th.testing.assert_close(results[0][1], results[1][1], rtol=1e-9, atol=1e-9)


def test_equal_quantiles_and_targets_on_the_kinks_are_exact():
    values = th.tensor([[-1.0, 0.0, 0.0, 1.0]], dtype=th.float64)
    taus = midpoint_taus(4).double()
    th.testing.assert_close(quantile_huber_loss(values, values, taus), pairwise_loss(values, values, taus))


def test_float32_stays_within_rounding_of_double():
    generator = th.Generator().manual_seed(3)
    quantiles, targets = th.randn(32, 200, generator=generator), th.randn(32, 200, generator=generator)
    single = quantile_huber_loss(quantiles, targets, midpoint_taus(200))
    double = quantile_huber_loss(quantiles.double(), targets.double(), midpoint_taus(200).double())
    th.testing.assert_close(single.double(), double, rtol=1e-6, atol=0)


def test_targets_receive_no_gradient():
    targets = th.zeros(1, 3, requires_grad=True)
    loss = quantile_huber_loss(th.ones(1, 2, requires_grad=True), targets, midpoint_taus(2)).sum()
    assert th.autograd.grad(loss, targets, allow_unused=True) == (None,)


def test_mismatched_shapes_are_refused_instead_of_broadcast():
    with pytest.raises(AssertionError, match="batch sizes differ"):
        quantile_huber_loss(th.zeros(2, 4), th.zeros(1, 4), midpoint_taus(4))


SUPPORT = th.linspace(-1, 1, 5)
PROBABILITIES = th.tensor([[0.1, 0.2, 0.4, 0.2, 0.1]])


@pytest.mark.parametrize(
    ("reward", "discount", "expected"),
    [
        # atoms -0.6, -0.15, 0.3, 0.75, 1.2; the last is clipped to 1
        (0.3, 0.9, [0.02, 0.14, 0.30, 0.34, 0.20]),
        (0.3, 0.0, [0.0, 0.0, 0.4, 0.6, 0.0]),  # terminal: all mass at 0.3, between 0 and 0.5
        (1.7, 0.9, [0.0, 0.0, 0.0, 0.04, 0.96]),  # 0.8 with mass 0.1, the rest clipped to 1
    ],
)
def test_categorical_projection_worked_by_hand(reward, discount, expected):
    projected = categorical_projection(reward + discount * SUPPORT.unsqueeze(0), PROBABILITIES, SUPPORT)
    assert projected[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_projection_onto_51_atoms_has_the_published_numbers():
    support = th.linspace(-10, 10, 51, dtype=th.double)
    uniform = th.full((1, 51), 1 / 51, dtype=th.double)
    projected = categorical_projection(1.0 + 0.99**3 * support.unsqueeze(0), uniform, support)[0]
    assert projected[:3].tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-12)
    assert projected[25].item() == pytest.approx(0.020190216, abs=1e-8)
    assert projected[50].item() == pytest.approx(0.05523288, abs=1e-8)
    assert projected.sum().item() == pytest.approx(1.0, abs=1e-12)
    assert (projected @ support).item() == pytest.approx(0.980041953, abs=1e-8)


def test_projection_keeps_mass_always_and_the_mean_inside_the_support():
    th.manual_seed(0)
    support = th.linspace(-3, 7, 21)
    atoms, mass = th.rand(50, 40) * 10 - 3, th.rand(50, 40).softmax(1)
    projected = categorical_projection(atoms, mass, support)
    th.testing.assert_close(projected.sum(1), th.ones(50))
    th.testing.assert_close(projected @ support, (atoms * mass).sum(1), rtol=1e-5, atol=1e-5)
    outside = categorical_projection(atoms * 9, mass, support)
    th.testing.assert_close(outside.sum(1), th.ones(50))


def test_implicit_quantile_loss_worked_by_hand():
    # tau 0.1: u = 0.2, 2.5 -> 0.1 * 0.02, 0.1 * 2; tau 0.6: u = -0.5, 1.8 -> 0.4 * 0.125, 0.6 * 1.3;
    # tau 0.9: u = -0.9, 1.4 -> 0.1 * 0.405, 0.9 * 0.9; summed over own, averaged over two targets: 1.8825 / 2
    taus, quantiles, targets = th.tensor([[0.1, 0.6, 0.9]]), th.tensor([[0.3, 1.0, 1.4]]), th.tensor([[0.5, 2.8]])
    assert quantile_huber_loss(quantiles, targets, taus).item() == pytest.approx(0.94125, abs=1e-6)
    assert absolute_td_error(quantiles, targets).item() == pytest.approx(3.65, abs=1e-6)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (1, [0.587785252, -0.309016994, -0.951056516, -0.809016994]),
        (0, [1.0, 0.587785252, -0.309016994, -0.951056516]),
    ],
)
def test_cosine_features_start_at_one_in_dopamine_and_at_zero_in_the_paper(first, expected):
    assert cosine_features(th.tensor([0.3]), 4, first)[0].tolist() == pytest.approx(expected, abs=1e-6)
