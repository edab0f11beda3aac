"""The plain PQN that ours is measured beside learns what the paper says, and the harness counts agent steps."""

import compare as benchmark
import interleave
import numpy as np
import pytest
import rollouts
import torch as th
from plain_pqn import GAMMA, Q_LAMBDA, PlainPQN, lambda_targets

from sbbatch import DQN, PQN
from sbbatch.envs.ale import make_ale_vec_env

TINY = {"n_envs": 2, "n_steps": 4, "n_minibatches": 2, "n_epochs": 1}


@pytest.fixture
def peer():
    th.manual_seed(0)
    env = make_ale_vec_env("Pong", 2, seed=0)
    yield PlainPQN(env, n_steps=4, n_minibatches=2, n_epochs=3)
    env.close()


def test_targets_are_those_of_q_lambda():
    # Three steps of one environment; the second ends an episode, so its target is its reward alone.
    rewards, dones = th.tensor([[1.0], [2.0], [3.0]]), th.tensor([[0.0], [1.0], [0.0]])
    values = th.tensor([[10.0], [20.0], [30.0]])
    first = 1 + GAMMA * (Q_LAMBDA * 2 + (1 - Q_LAMBDA) * 10)
    last = 3 + GAMMA * 30  # the rollout ends: the plain one-step target
    assert lambda_targets(rewards, dones, values).flatten().tolist() == pytest.approx([first, 2.0, last])


def test_a_rollout_holds_what_was_played(peer):
    targets = peer.collect()
    assert targets.shape == peer.rewards.shape == (4, 2)
    assert peer.frames.max() > 1  # not divided yet
    values = peer.network(peer.frames[2]).max(dim=1).values
    assert values.tolist() == pytest.approx(peer.values[2].tolist(), rel=1e-4)


def test_it_learns_every_transition_once_an_epoch(peer, monkeypatch):
    sizes, forward = [], peer.network.forward
    targets = peer.collect()
    monkeypatch.setattr(peer.network, "forward", lambda frames: (sizes.append(len(frames)), forward(frames))[1])
    peer.train(targets)
    assert sizes == [4] * 6


def test_it_comes_closer_to_its_targets(peer):
    targets = peer.collect() + 1.0

    def error():
        q_values = peer.network(peer.frames.flatten(0, 1)).gather(1, peer.actions.flatten()[:, None])[:, 0]
        return float((q_values - targets.flatten()).square().mean().detach())

    before = error()
    np.random.seed(0)
    for _ in range(4):
        peer.train(targets)
    assert error() < before


def test_learn_counts_agent_steps(peer, monkeypatch):
    rollouts = []
    monkeypatch.setattr(peer, "train", rollouts.append)
    peer.learn(9)  # a rollout is 8
    assert len(rollouts) == 2


@pytest.mark.parametrize("plain", [True, False])
def test_the_harness_returns_agent_steps_per_second(monkeypatch, plain):
    calls = []
    monkeypatch.setattr(rollouts, "seconds_per_call", lambda work, n: (calls.append(work()), 0.5)[1])
    measure = rollouts.make_pqn(plain, 3, **TINY)
    assert measure() == 16.0  # 8 agent steps in half a second
    assert len(calls) == 1


def test_every_one_is_measured_in_turn_after_a_warm_up():
    turns = []
    figures = interleave.interleaved({name: lambda name=name: turns.append(name) or len(turns) for name in "ab"}, 3)
    assert turns == ["a", "b"] * 4
    assert figures == {"a": 5, "b": 6}  # medians of 3, 5, 7 and 4, 6, 8


def test_both_are_measured_and_the_ratio_is_ours_over_theirs(monkeypatch, capsys):
    monkeypatch.setattr(
        rollouts, "in_own_processes", lambda makers, rounds: dict(zip(makers, (30.0, 20.0), strict=True))
    )
    assert benchmark.main(["--only", "pqn"]) == 0
    assert f"{rollouts.PQN_PEER} 20 | times_faster 1.5" in capsys.readouterr().out


def test_the_cost_of_measuring_is_relative_to_the_training_between_two_measurements(monkeypatch):
    figures = {"measurement": 0.2, "training": 2.0}
    monkeypatch.setattr(rollouts, "interleaved", lambda work, n: figures)
    agent = PQN("MlpPolicy", "CartPole-v1", n_steps=4, n_minibatches=2)
    row = rollouts.cost_of_measuring(agent, "pqn", n_timesteps=4, rounds=1)
    assert row["training_between_two"] == 2.0 * 50  # rollouts
    assert row["percent"] == pytest.approx(0.2)
    replay = DQN("MlpPolicy", "CartPole-v1", buffer_size=100)
    assert rollouts.cost_of_measuring(replay, "dqn", n_timesteps=1_000, rounds=1)["training_between_two"] == 2.0 * 100
