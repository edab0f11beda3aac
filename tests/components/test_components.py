"""Bootstraps, exploration and target synchronisation."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch as th

from sbbatch.components.bootstrap import Double, Greedy, Munchausen
from sbbatch.components.exploration import EpsilonGreedy
from sbbatch.components.target_network import sync_target
from sbbatch.errors import InvalidValue
from sbbatch.networks.heads import ExpectedReturns, QuantileReturns, huber
from sbbatch.replay.batch import ReplayBatch
from sbbatch.replay.samplers import PrioritizedSampler


def batch_of(rewards):
    n = len(rewards)
    return ReplayBatch(
        observations=th.zeros(n, 1),
        actions=th.zeros(n, dtype=th.long),
        rewards=th.tensor(rewards),
        next_observations=th.ones(n, 1),
        discounts=th.full((n,), 0.9),
        weights=th.ones(n),
        indices=np.arange(n),
    )


def test_greedy_selects_and_evaluates_with_the_target_network():
    asked = []

    def target(observations):
        asked.append(observations)
        return ExpectedReturns(th.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 4.0]]), huber)

    def online(_):
        raise AssertionError("the online network has no part in it")

    batch = batch_of([0.5, -1.0])
    estimate, policy, bonus, rewards = Greedy()(None, online, target, batch)
    assert asked == [batch.next_observations]
    assert policy.tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert not bonus.any()
    # 0.5 + 0.9 * 3 = 3.2 and -1 + 0.9 * 5 = 3.5
    assert estimate.backup(policy, bonus, rewards, batch.discounts).tolist() == pytest.approx([3.2, 3.5])


def test_double_selects_with_the_online_network_and_evaluates_with_the_target():
    online = ExpectedReturns(th.tensor([[1.0, 2.0], [5.0, 1.0]]), huber)
    target = ExpectedReturns(th.tensor([[3.0, 0.5], [0.0, 4.0]]), huber)
    batch = batch_of([0.0, 0.0])
    estimate, policy, bonus, rewards = Double()(None, lambda _: online, lambda _: target, batch)
    assert policy.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    # 0.9 * 0.5 and 0.9 * 0
    assert estimate.backup(policy, bonus, rewards, batch.discounts).tolist() == pytest.approx([0.45, 0.0])


# Numbers of BTR: temperature 0.03, alpha 0.9, clip -1, gamma 0.997, n = 3.
CURRENT = ExpectedReturns(th.tensor([[0.30, 0.33, 0.20]], dtype=th.double), huber)
NEXT = QuantileReturns(
    th.tensor([[[0.10, 0.14], [0.12, 0.20], [0.05, 0.07]]], dtype=th.double), th.tensor([0.25, 0.75]), 1.0
)


def munchausen_of(current, batch, **kwargs):
    return Munchausen(**kwargs)(current, lambda _: current, lambda _: NEXT, batch)


@pytest.mark.parametrize(
    ("discount", "expected"), [(0.997**3, [0.595828513, 0.665435625]), (0.0, [0.464284125, 0.464284125])]
)
def test_munchausen_target_worked_by_hand(discount, expected):
    # t log pi(s) = [-0.03968431, -0.00968431, -0.13968431]; bonus 0.9 * -0.03968431 = -0.035715875
    # next: means [0.12, 0.16, 0.06], t log pi' = [-0.0478541, -0.0078541, -0.1078541],
    # pi' = [0.20288078, 0.76966229, 0.02745693], V = [0.13273543, 0.20297278]
    batch = batch_of([0.5])
    estimate, policy, bonus, rewards = munchausen_of(CURRENT, batch)
    assert rewards.item() == pytest.approx(0.5 - 0.035715875, abs=1e-6)
    assert (-bonus[0]).tolist() == pytest.approx([-0.0478541, -0.0078541, -0.1078541], abs=1e-6)
    assert policy[0].tolist() == pytest.approx([0.20288078, 0.76966229, 0.02745693], abs=1e-6)
    backup = estimate.backup(policy, bonus, rewards, th.tensor([discount], dtype=th.double))
    assert backup[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_munchausen_values_average_to_the_soft_maximum():
    estimate, policy, bonus, rewards = munchausen_of(CURRENT, batch_of([0.0]), alpha=0.0)
    backup = estimate.backup(policy, bonus, rewards, th.ones(1))
    assert backup.mean().item() == pytest.approx(0.03 * th.logsumexp(NEXT.q_values / 0.03, 1).item(), abs=1e-6)
    assert backup.mean().item() == pytest.approx(0.167854103, abs=1e-6)


def test_munchausen_bonus_is_clipped():
    current = ExpectedReturns(th.tensor([[0.0, 2.0, 0.0]]), huber)
    assert munchausen_of(current, batch_of([0.0]))[3].item() == pytest.approx(-0.9)  # t log pi = -2


def test_munchausen_log_policy_comes_from_either_network():
    other = ExpectedReturns(th.tensor([[0.9, 0.1, 0.1]]), huber)  # action 0 is its best: no bonus

    def target(observations):
        return other if observations is batch.observations else NEXT

    batch = batch_of([0.0])
    for log_policy, expected in (("online", -0.035715875), ("target", 0.0)):
        bootstrap = Munchausen(log_policy=log_policy)
        assert bootstrap(CURRENT, None, target, batch).rewards.item() == pytest.approx(expected, abs=1e-6)


def test_btr_loss_and_priority_worked_by_hand():
    # u = [[0.095828513, 0.165435625], [-0.104171487, -0.034564375]]
    estimate = QuantileReturns(th.tensor([[[0.5, 0.7]]]), th.tensor([[0.25, 0.75]]), 1.0)
    action, target = th.tensor([0]), th.tensor([[0.595828513, 0.665435625]])
    loss = estimate.td_loss(action, target)
    assert loss.item() == pytest.approx(0.003037403, abs=1e-8)
    weights = th.tensor([1.0, 0.5])  # of two such samples
    assert (weights * loss.repeat(2)).mean().item() == pytest.approx(0.002278052, abs=1e-8)
    error = estimate.td_error(action, target)
    assert error.item() == pytest.approx(0.2, abs=1e-7)
    sampler = PrioritizedSampler(1, priority_exponent=0.2, epsilon=1e-6)
    sampler.add(np.array([0]))
    sampler.update_priorities(np.array([0]), error.numpy())
    assert sampler.tree.leaves[0] == pytest.approx(0.724780388, abs=1e-7)  # (0.2 + 1e-6)^0.2


@pytest.mark.parametrize(
    ("argument", "value"), [("temperature", 0.0), ("clip", 1.0), ("alpha", 2.0), ("log_policy", "onlin")]
)
def test_wrong_munchausen_numbers_are_named(argument, value):
    with pytest.raises(InvalidValue, match=argument):
        Munchausen(**{argument: value})


def test_a_batch_splits_into_disjoint_parts_in_order():
    batch = batch_of([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    parts = batch.split(3)
    assert [part.rewards.tolist() for part in parts] == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert [part.indices.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert batch.split(1) == [batch]
    of_dicts = replace(batch, observations={"a": th.arange(6.0)})
    assert [part.observations["a"].tolist() for part in of_dicts.split(2)] == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_each_environment_throws_its_own_coin():
    explorers = EpsilonGreedy(4, seed=0).explorers(1_000, 0.3)
    assert 250 < explorers.sum() < 350


def test_random_actions_are_uniform_over_all_actions():
    counts = np.bincount(EpsilonGreedy(5, seed=0).random_actions(5_000), minlength=5)
    assert counts.min() > 900
    assert len(counts) == 5


@pytest.mark.parametrize(("tau", "expected"), [(1.0, 4.0), (0.25, 1.0), (0.0, 0.0)])
def test_target_moves_towards_the_online_network_by_tau(tau, expected):
    online, target = [th.full((2,), 4.0)], [th.zeros(2)]
    sync_target(online, target, tau)
    assert target[0].tolist() == [expected] * 2
    assert online[0].tolist() == [4.0] * 2


def test_tiny_numbers_are_zero_in_all_threads_once_sbbatch_is_imported():
    code = "import sbbatch, torch as t; t.set_num_threads(2); print((t.full((400_000,), 1e-38) * 0.1).any().item())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
