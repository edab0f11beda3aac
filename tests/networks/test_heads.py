"""Heads: hand-worked losses, and the law that ties every representation to the scalar Bellman backup."""

from functools import partial

import numpy as np
import pytest
import torch as th
from torch import nn

from sbbatch.components.bootstrap import BOOTSTRAPS, Double, Greedy, Munchausen
from sbbatch.errors import InvalidValue
from sbbatch.functional.distributions import cosine_features, midpoint_taus, quantile_huber_loss
from sbbatch.networks.action_layers import LayerSpec
from sbbatch.networks.heads import (
    CategoricalHead,
    CategoricalReturns,
    ExpectedHead,
    ExpectedReturns,
    ImplicitQuantileHead,
    QuantileHead,
    QuantileReturns,
    huber,
    squared_error,
)
from sbbatch.networks.layers import stochastic
from sbbatch.replay.batch import ReplayBatch

HEADS = {
    "expected": ExpectedHead,
    "categorical": CategoricalHead,
    "quantile": QuantileHead,
    # one draw for policy and target, so that the law below is about the same numbers
    "implicit": partial(ImplicitQuantileHead, n_policy_taus=None),
}


def build(head, n_actions, net_arch=(16,), **layers):
    return HEADS[head](LayerSpec(7, n_actions, list(net_arch), **layers))


def one_hot_of_best(q_values):
    return nn.functional.one_hot(q_values.argmax(1), q_values.shape[1]).float()


@pytest.mark.parametrize(
    ("rewards", "targets", "mse", "huber_mean"),
    [
        ([0.5, -1.0], [2.381, -1.0], 0.7270805, 0.35354025),
        ([0.5, -3.0], [2.381, -3.0], 5.1270805, 1.35354025),
    ],
)
def test_dqn_target_and_losses_worked_by_hand(rewards, targets, mse, huber_mean):
    q_values = th.tensor([[1.0, 2.5, -0.5], [0.2, 0.1, 0.3]])
    next_q_values = th.tensor([[0.7, 1.9, 1.4], [2.0, -1.0, 0.5]])
    actions, discounts = th.tensor([1, 0]), 0.99 * (1 - th.tensor([0.0, 1.0]))
    # first: 0.5 + 0.99 * 1.9 = 2.381, u = 2.381 - 2.5 = -0.119; second: terminal, u = r - 0.2
    next_estimate = ExpectedReturns(next_q_values, huber)
    target = next_estimate.backup(one_hot_of_best(next_q_values), th.zeros(2, 3), th.tensor(rewards), discounts)
    assert target.tolist() == pytest.approx(targets, abs=1e-6)
    assert ExpectedReturns(q_values, squared_error).td_loss(actions, target).mean().item() == pytest.approx(
        mse, abs=1e-6
    )
    assert ExpectedReturns(q_values, huber).td_loss(actions, target).mean().item() == pytest.approx(
        huber_mean, abs=1e-6
    )


@pytest.mark.parametrize("head", HEADS)
def test_loss_reaches_only_the_chosen_actions(head):
    th.manual_seed(0)
    module = build(head, 3, net_arch=())
    estimate = module(th.randn(4, 7))
    target = estimate.backup(estimate.q_values.softmax(1), th.zeros(4, 3), th.ones(4), th.ones(4)).detach()
    estimate.td_loss(th.tensor([1, 1, 1, 1]), target).sum().backward()
    by_action = module.layers.output.weight.grad.reshape(3, -1, 7).abs().sum((1, 2))
    assert by_action[1] > 0
    assert by_action[[0, 2]].sum() == 0


def test_q_value_of_quantiles_is_their_mean():
    quantiles = th.tensor([[[0.0, 1.0, 5.0], [2.0, 2.0, 2.0]]])
    assert QuantileReturns(quantiles, th.tensor([1 / 6, 0.5, 5 / 6]), 1.0).q_values.tolist() == [[2.0, 2.0]]


def test_silent_broadcasting_of_a_column_target_is_refused():
    estimate = ExpectedReturns(th.zeros(4, 2), huber)
    with pytest.raises(AssertionError, match="target"):
        estimate.td_loss(th.zeros(4, dtype=th.long), th.zeros(4, 1))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda layers: ExpectedHead(layers, loss="hubber"), "did you mean 'huber'"),
        (lambda layers: QuantileHead(layers, n_quantiles=0), "n_quantiles"),
        (lambda layers: QuantileHead(layers, kappa=0.0), "kappa"),
        (lambda layers: CategoricalHead(layers, v_min=10.0), "v_min"),
        (lambda layers: ImplicitQuantileHead(layers, n_policy_taus=None, n_taus=8), "n_taus"),
        (lambda _: LayerSpec(4, 2, dueling="stream"), "did you mean 'streams'"),
        (lambda _: LayerSpec(4, 2, dueling="streams"), "net_arch"),
        (lambda _: LayerSpec(4, 2, noisy_sigma0=-0.5), "noisy_sigma0"),
    ],
)
def test_bad_arguments_of_heads_and_layers_are_named(make, named):
    with pytest.raises(InvalidValue, match=named):
        make(LayerSpec(4, 2))


def log_estimate(rows):
    """A categorical estimate on five atoms of [-1, 1], from probabilities (batch, actions, atoms)."""
    return CategoricalReturns(th.tensor(rows, dtype=th.double).log(), th.linspace(-1, 1, 5, dtype=th.double))


@pytest.mark.parametrize(
    ("target", "expected"),
    [([0.02, 0.14, 0.30, 0.34, 0.20], 1.626301139), ([0.0, 0.0, 0.4, 0.6, 0.0], 1.458301139)],
)
def test_categorical_loss_is_the_cross_entropy_worked_by_hand(target, expected):
    logits = th.tensor([[[0.2, -0.1, 0.0, 0.3, -0.4]]])
    # log-softmax -1.438301139, -1.738301139, -1.638301139, -1.338301139, -2.038301139
    estimate = CategoricalReturns(logits, th.linspace(-1, 1, 5))
    assert estimate.td_loss(th.tensor([0]), th.tensor([target])).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("bootstrap", "expected"),
    [
        # the online network likes action 0 (0.3 against -0.3), the target network action 1 (0.575 against -0.4)
        (Double(), [0.2162392, 0.3548505, 0.1889103, 0.1029701, 0.1370299]),
        (Greedy(), [0.0270299, 0.05148505, 0.08148505, 0.2289103, 0.6110897]),
    ],
)
def test_double_and_single_categorical_targets_worked_by_hand(bootstrap, expected):
    online = log_estimate([[[0.1, 0.1, 0.2, 0.3, 0.3], [0.3, 0.3, 0.2, 0.1, 0.1]]])
    target = log_estimate([[[0.4, 0.3, 0.1, 0.1, 0.1], [0.05, 0.05, 0.1, 0.3, 0.5]]])
    batch = ReplayBatch(th.zeros(1), th.tensor([0]), th.tensor([0.2]), th.zeros(1), None, None, None)
    estimate, policy, bonus, rewards = bootstrap(online, lambda _: online, lambda _: target, batch)
    backup = estimate.backup(policy, bonus, rewards.double(), th.tensor([0.99**3], dtype=th.double))
    assert backup[0].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("layers", [{}, {"dueling": "output"}, {"dueling": "streams", "noisy_sigma0": 0.5}], ids=str)
@pytest.mark.parametrize(
    "bootstrap", [*(bootstrap() for bootstrap in BOOTSTRAPS.values()), Munchausen(log_policy="target")], ids=repr
)
def test_every_head_with_every_bootstrap_backs_up_the_scalar_value_and_learns(head, layers, bootstrap):
    th.manual_seed(0)
    online, target = build(head, 4, **layers), build(head, 4, **layers)
    rng = np.random.default_rng(0)
    batch = ReplayBatch(
        observations=th.randn(9, 7),
        actions=th.randint(4, (9,)),
        rewards=th.randn(9),
        next_observations=th.randn(9, 7),
        discounts=th.rand(9) * 0.5,
        weights=th.ones(9),
        indices=np.arange(9),
    )
    with stochastic(online, rng), stochastic(target, rng):
        current = online(batch.observations)
        with th.no_grad():
            estimate, policy, bonus, rewards = bootstrap(current, online, target, batch)
            backup = estimate.backup(policy, bonus, rewards, batch.discounts)
            scalar = rewards + batch.discounts * (policy * (estimate.q_values + bonus)).sum(1)
        td_loss = current.td_loss(batch.actions, backup)
        td_error = current.td_error(batch.actions, backup)
    mean = backup @ estimate.support if head == "categorical" else backup.reshape(9, -1).mean(1)
    th.testing.assert_close(mean, scalar, rtol=1e-5, atol=1e-5)
    assert td_loss.shape == td_error.shape == (9,)
    assert (td_loss >= 0).all()
    assert (td_error >= 0).all()
    td_loss.mean().backward()
    assert all(parameter.grad is not None for parameter in online.parameters())
    assert all(parameter.grad is None for parameter in target.parameters())


def test_implicit_quantiles_draw_for_policy_loss_and_target_apart():
    head = ImplicitQuantileHead(LayerSpec(7, 3, [16]), n_taus=5, n_target_taus=6, n_policy_taus=7)
    with stochastic(head, np.random.default_rng(0)):
        estimate = head(th.randn(2, 7))
        sizes = [part.taus.shape[1] for part in (estimate._for_loss, estimate._for_target, estimate._for_policy)]
    assert sizes == [5, 6, 7]


def test_implicit_quantiles_share_one_draw_on_demand():
    head = ImplicitQuantileHead(LayerSpec(7, 3, [16]), n_taus=8, n_target_taus=8, n_policy_taus=None)
    with stochastic(head, np.random.default_rng(0)):
        estimate = head(th.randn(2, 7))
        assert estimate._for_loss is estimate._for_target is estimate._for_policy
        assert (estimate._for_loss.taus[0] != estimate._for_loss.taus[1]).all(), "each state has fractions of its own"


def test_implicit_quantiles_are_deterministic_outside_the_switch():
    head = ImplicitQuantileHead(LayerSpec(7, 3, [16]), n_policy_taus=4)
    features = th.randn(2, 7)
    assert th.equal(head(features).q_values, head(features).q_values)
    assert head.draw_taus(features, 4).tolist() == [[0.125, 0.375, 0.625, 0.875]] * 2


def test_the_loss_of_implicit_quantiles_has_the_heads_kappa():
    head = ImplicitQuantileHead(LayerSpec(7, 3, [16]), n_taus=4, kappa=0.3)
    estimate, actions, target, taus = head(th.randn(5, 7)), th.randint(3, (5,)), 3 * th.randn(5, 6), midpoint_taus(4)
    own = estimate.at(taus.expand(5, 4)).quantiles[th.arange(5), actions]
    th.testing.assert_close(estimate.td_loss(actions, target), quantile_huber_loss(own, target, taus, 0.3))


def test_implicit_quantiles_multiply_the_input_of_the_last_hidden_layer_with_the_embedding():
    head = ImplicitQuantileHead(LayerSpec(7, 3, [16, 12]), n_cosines=5)
    features, taus = th.randn(2, 7), th.rand(2, 4)
    hidden = head.hidden(features)
    assert hidden.shape == (2, 16)
    embedding = head.embedding[0](cosine_features(taus, 5, 1)).relu()
    expected = head.layers(hidden.unsqueeze(1) * embedding)  # (batch, taus, actions, 1)
    th.testing.assert_close(head(features).head.quantiles(hidden, taus), expected[..., 0].transpose(1, 2))
