"""Fixtures of the contract: every test that asks for one of them runs for every agent of the registry it is about."""

import pytest

import sbbatch
from sbbatch.algorithms.acting import EpsilonGreedyAgent
from sbbatch.algorithms.rollout import ResizableRollout
from sbbatch.algorithms.value import ValueAlgorithm


def names_of(base):
    return [name for name, algorithm in sbbatch.ALGORITHMS.items() if issubclass(algorithm, base)]


@pytest.fixture(params=sbbatch.ALGORITHMS, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def algorithm(name):
    return sbbatch.ALGORITHMS[name]


@pytest.fixture(params=names_of(ValueAlgorithm), scope="module")
def replay_name(request):
    return request.param


@pytest.fixture(scope="module")
def replay_algorithm(replay_name):
    """Agents that learn from replay."""
    return sbbatch.ALGORITHMS[replay_name]


@pytest.fixture(params=names_of(EpsilonGreedyAgent), scope="module")
def value_algorithm(request):
    """Agents with action values, from replay or from rollouts."""
    return sbbatch.ALGORITHMS[request.param]


@pytest.fixture(params=names_of(ResizableRollout), scope="module")
def rollout_algorithm(request):
    """Agents that learn from rollouts."""
    return sbbatch.ALGORITHMS[request.param]
