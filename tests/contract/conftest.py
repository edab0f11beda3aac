"""Fixtures of the contract: every test that asks for one of them runs for every agent of the registry it is about."""

import pytest

import sbbatch
from sbbatch.agents.base.q_learning import QLearningAgent
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.agents.base.rollout import RolloutAgent


def names_of(base):
    return [name for name, algorithm in sbbatch.ALGORITHMS.items() if issubclass(algorithm, base)]


@pytest.fixture(params=sbbatch.ALGORITHMS, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def algorithm(name):
    return sbbatch.ALGORITHMS[name]


@pytest.fixture(params=names_of(ReplayAgent), scope="module")
def replay_name(request):
    return request.param


@pytest.fixture(scope="module")
def replay_algorithm(replay_name):
    """Agents that learn from replay."""
    return sbbatch.ALGORITHMS[replay_name]


@pytest.fixture(params=names_of(QLearningAgent), scope="module")
def value_algorithm(request):
    """Agents with action values, from replay or from rollouts."""
    return sbbatch.ALGORITHMS[request.param]


@pytest.fixture(params=names_of(RolloutAgent), scope="module")
def rollout_algorithm(request):
    """Agents that learn from rollouts."""
    return sbbatch.ALGORITHMS[request.param]
