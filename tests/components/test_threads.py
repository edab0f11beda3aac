"""How many threads, and how they wait for each other."""

import importlib
import os
from collections import Counter
from types import SimpleNamespace

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
        ({1: 1.15, 2: 1.06, 4: 1.0}, 2),
    ],
)
def test_a_thread_must_be_worth_its_core(times, best, four_threads, monkeypatch):
    now, n = [0.0], Counter()

    def compute(policy, observations):
        count = th.get_num_threads()
        n[count] += 1
        now[0] += times[count] * (0.5 if n[count] % 2 else 1.5)  # the mean counts, not a lucky moment

    monkeypatch.setattr(threads, "_gradient", compute)
    monkeypatch.setattr(threads, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    assert threads.fastest_threads(DQN("MlpPolicy", "CartPole-v1", device="cpu"), seconds=300.0) == best


def test_threads_spin_shortly_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    importlib.reload(openmp)
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    importlib.reload(openmp)
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # which the other one would override
    importlib.reload(openmp)
    assert "GOMP_SPINCOUNT" not in os.environ
