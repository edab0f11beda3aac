"""How many threads, and how they wait for each other."""

import importlib
import os

import pytest
import torch as th

from sbbatch import DQN, openmp
from sbbatch.agents.base import threads


@pytest.fixture
def four_threads():
    th.set_num_threads(4)
    yield
    th.set_num_threads(1)


@pytest.mark.parametrize(
    ("times", "best"),
    [
        ({1: 1.0, 2: 0.6, 4: 0.4}, 4),
        ({1: 1.0, 2: 0.95, 4: 0.8}, 4),
        ({1: 1.0, 2: 0.95, 4: 0.92}, 1),
        ({1: 1.0, 2: 2.0, 4: 3.0}, 1),
    ],
)
def test_a_thread_must_be_worth_its_core(times, best, four_threads, monkeypatch):
    monkeypatch.setattr(threads, "_time", lambda policy, observations: times[th.get_num_threads()])
    assert threads.fastest_threads(DQN("MlpPolicy", "CartPole-v1", device="cpu"), seconds=0.0) == best


def test_threads_spin_shortly_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    importlib.reload(openmp)
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    importlib.reload(openmp)
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
