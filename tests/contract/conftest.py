"""Fixtures of the contract: `any_algorithm` is all agents of the registry; the others, a few that represent them."""

import pytest

import sbbatch
from sbbatch.agents.base.q_learning import QLearningAgent
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.agents.base.rollout import RolloutAgent

# The plainest agent and the one with most parts learn from replay, the other two from rollouts.
REPRESENTATIVES = ("dqn", "btr", "pqn", "ppo")


def representatives_of(base):
    return [name for name in REPRESENTATIVES if issubclass(sbbatch.ALGORITHMS[name], base)]


@pytest.fixture(params=sbbatch.ALGORITHMS, scope="module")
def any_algorithm(request):
    """Every agent, so that a new one is tested by being registered."""
    return sbbatch.ALGORITHMS[request.param]


@pytest.fixture(params=REPRESENTATIVES, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def algorithm(name):
    return sbbatch.ALGORITHMS[name]


@pytest.fixture(params=representatives_of(ReplayAgent), scope="module")
def replay_name(request):
    return request.param


@pytest.fixture(scope="module")
def replay_algorithm(replay_name):
    """Agents that learn from replay."""
    return sbbatch.ALGORITHMS[replay_name]


@pytest.fixture(params=representatives_of(QLearningAgent), scope="module")
def value_algorithm(request):
    """Agents with action values, from replay or from rollouts."""
    return sbbatch.ALGORITHMS[request.param]


@pytest.fixture(params=representatives_of(RolloutAgent), scope="module")
def rollout_algorithm(request):
    """Agents that learn from rollouts."""
    return sbbatch.ALGORITHMS[request.param]
