"""A replay buffer that was saved is the same when it is loaded, or the present one stays."""

import io

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from contract_tools import KINDS, make_agent, refusal
from stable_baselines3.common.vec_env import DummyVecEnv

from sbbatch.errors import InvalidValue


@pytest.fixture(params=["dqn", "rainbow"], scope="module")
def replay_name(request):
    """The buffers of all agents are the same: uniform or prioritized."""
    return request.param


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prioritized", [False, True])
def test_a_replay_buffer_survives_saving_and_loading(replay_algorithm, kind, prioritized, tmp_path):
    agent = make_agent(replay_algorithm, kind, prioritized=prioritized, n_steps=3).learn(100)
    agent.save_replay_buffer(tmp_path / "buffer")
    other = make_agent(replay_algorithm, kind, prioritized=prioritized, n_steps=3, seed=9)
    other.load_replay_buffer(tmp_path / "buffer")
    first, second = agent.replay_buffer.sample(20), other.replay_buffer.sample(20)
    np.testing.assert_array_equal(first.indices, second.indices)
    assert th.equal(first.rewards, second.rewards)
    assert th.equal(first.weights, second.weights)
    other.learn(60)
    assert other.replay_buffer.size() == 160


def test_a_replay_buffer_can_be_kept_in_an_open_file(replay_algorithm):
    agent, file = make_agent(replay_algorithm).learn(60), io.BytesIO()
    agent.save_replay_buffer(file)
    file.seek(0)
    other = make_agent(replay_algorithm)
    other.load_replay_buffer(file)
    np.testing.assert_array_equal(other.replay_buffer.observations, agent.replay_buffer.observations)


@pytest.mark.parametrize("case", ["damaged", "other size", "other environment", "other number", "missing", "a model"])
def test_a_replay_buffer_that_cannot_be_loaded_leaves_the_present_one(replay_algorithm, case, tmp_path):
    path = tmp_path / "buffer.npz"
    strangers = {
        "other size": {"buffer_size": 300},
        "other environment": {"env": "Acrobot-v1"},
        "other number": {"env": DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2)},
    }
    make_agent(replay_algorithm, **strangers.get(case, {})).learn(60).save_replay_buffer(path)
    if case == "damaged":
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 16
        path.write_bytes(raw)
    if case == "missing":
        path.unlink()
    agent = make_agent(replay_algorithm).learn(60)
    if case == "a model":
        agent.save(path)
    buffer, before = agent.replay_buffer, agent.replay_buffer.observations
    refusal(FileNotFoundError if case == "missing" else InvalidValue, agent.load_replay_buffer, path)
    assert agent.replay_buffer is buffer
    np.testing.assert_array_equal(agent.replay_buffer.observations, before)
    agent.learn(20)


def test_a_saved_replay_buffer_contains_no_pickle(replay_algorithm, tmp_path):
    make_agent(replay_algorithm, prioritized=True).learn(60).save_replay_buffer(tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz", allow_pickle=False) as arrays:
        assert all(arrays[member].dtype != object for member in arrays.files)
