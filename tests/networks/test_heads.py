"""Heads: hand-worked losses, and the law that ties every representation to the scalar Bellman backup."""

import pytest
import torch as th
from torch import nn

from sbbatch.errors import InvalidValue
from sbbatch.networks.heads import ExpectedHead, ExpectedReturns, QuantileHead, QuantileReturns, huber, squared_error

HEADS = {"expected": ExpectedHead, "quantile": QuantileHead}


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
@pytest.mark.parametrize("policy_kind", ["greedy", "softmax"])
def test_mean_of_the_backup_is_the_scalar_backup(head, policy_kind):
    th.manual_seed(0)
    estimate = HEADS[head](7, 5, [16])(th.randn(9, 7))
    q_values = estimate.q_values
    policy = one_hot_of_best(q_values) if policy_kind == "greedy" else q_values.mul(3).softmax(1)
    bonus, rewards, discounts = th.randn(9, 5), th.randn(9), th.rand(9)
    backup = estimate.backup(policy, bonus, rewards, discounts)
    scalar = rewards + discounts * (policy * (q_values + bonus)).sum(1)
    th.testing.assert_close(backup.reshape(9, -1).mean(1), scalar, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_loss_reaches_only_the_chosen_actions(head):
    th.manual_seed(0)
    module = HEADS[head](7, 3, [])
    estimate = module(th.randn(4, 7))
    target = estimate.backup(estimate.q_values.softmax(1), th.zeros(4, 3), th.ones(4), th.ones(4)).detach()
    estimate.td_loss(th.tensor([1, 1, 1, 1]), target).sum().backward()
    by_action = module.output.weight.grad.reshape(3, -1, 7).abs().sum((1, 2))
    assert by_action[1] > 0
    assert by_action[[0, 2]].sum() == 0


@pytest.mark.parametrize("head", HEADS)
def test_head_gives_one_value_per_action(head):
    assert HEADS[head](7, 5, [16])(th.randn(2, 7)).q_values.shape == (2, 5)


def test_q_value_of_quantiles_is_their_mean():
    quantiles = th.tensor([[[0.0, 1.0, 5.0], [2.0, 2.0, 2.0]]])
    assert QuantileReturns(quantiles, th.tensor([1 / 6, 0.5, 5 / 6]), 1.0).q_values.tolist() == [[2.0, 2.0]]


def test_silent_broadcasting_of_a_column_target_is_refused():
    estimate = ExpectedReturns(th.zeros(4, 2), huber)
    with pytest.raises(AssertionError, match="target"):
        estimate.td_loss(th.zeros(4, dtype=th.long), th.zeros(4, 1))


@pytest.mark.parametrize(
    ("head", "kwargs", "word"),
    [
        (ExpectedHead, {"loss": "hubber"}, "did you mean 'huber'"),
        (QuantileHead, {"n_quantiles": 0}, "n_quantiles: got 0"),
        (QuantileHead, {"kappa": 0.0}, "kappa: got 0.0"),
    ],
)
def test_bad_arguments_are_named(head, kwargs, word):
    with pytest.raises(InvalidValue, match=word):
        head(4, 2, [], **kwargs)
