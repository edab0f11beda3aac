"""Bootstraps, exploration and target synchronisation."""

import subprocess
import sys

import numpy as np
import pytest
import torch as th

from sbbatch.components.bootstrap import Greedy
from sbbatch.components.exploration import EpsilonGreedy
from sbbatch.components.target_network import sync_target
from sbbatch.networks.heads import ExpectedReturns, QuantileReturns, huber
from sbbatch.replay.batch import ReplayBatch


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
    estimate, policy, bonus, rewards = Greedy()(online, target, batch)
    assert asked == [batch.next_observations]
    assert policy.tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert not bonus.any()
    # 0.5 + 0.9 * 3 = 3.2 and -1 + 0.9 * 5 = 3.5
    assert estimate.backup(policy, bonus, rewards, batch.discounts).tolist() == pytest.approx([3.2, 3.5])


def test_greedy_takes_all_quantiles_of_the_action_with_the_best_mean():
    quantiles = th.tensor([[[0.0, 9.0], [4.0, 4.0]]])  # means 4.5 and 4

    def target(_):
        return QuantileReturns(quantiles, th.tensor([0.25, 0.75]), 1.0)

    estimate, policy, bonus, rewards = Greedy()(target, target, batch_of([1.0]))
    backup = estimate.backup(policy, bonus, rewards, th.tensor([0.5]))
    assert backup.tolist() == [[1.0, 5.5]]


def test_each_environment_throws_its_own_coin():
    explorers = EpsilonGreedy(4, seed=0).explorers(1_000, 0.3)
    assert 250 < explorers.sum() < 350


def test_epsilon_of_zero_and_one_leave_nothing_to_chance():
    exploration = EpsilonGreedy(4, seed=0)
    assert not exploration.explorers(1_000, 0.0).any()
    assert exploration.explorers(1_000, 1.0).all()


def test_random_actions_are_uniform_over_all_actions():
    counts = np.bincount(EpsilonGreedy(5, seed=0).random_actions(5_000), minlength=5)
    assert counts.min() > 900
    assert len(counts) == 5


def test_exploration_goes_on_from_its_state():
    exploration = EpsilonGreedy(4, seed=0)
    state = exploration.get_state()
    drawn = exploration.random_actions(10)
    exploration.set_state(state)
    assert np.array_equal(exploration.random_actions(10), drawn)


@pytest.mark.parametrize(("tau", "expected"), [(1.0, 4.0), (0.25, 1.0), (0.0, 0.0)])
def test_target_moves_towards_the_online_network_by_tau(tau, expected):
    online, target = [th.full((2,), 4.0)], [th.zeros(2)]
    sync_target(online, target, tau)
    assert target[0].tolist() == [expected] * 2
    assert online[0].tolist() == [4.0] * 2


def test_nothing_to_synchronise_is_fine():
    assert sync_target([], [], 1.0) is None


def test_tiny_numbers_are_zero_in_all_threads_once_sbbatch_is_imported():
    code = "import sbbatch, torch as t; t.set_num_threads(2); print((t.full((400_000,), 1e-38) * 0.1).any().item())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
