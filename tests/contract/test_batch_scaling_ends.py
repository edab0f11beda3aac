"""However a training ends, its batch-size callback is silent afterwards; and what measuring gradients gives."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch as th
from contract_tools import make_agent, refusal

from sbbatch import ABS, DQN, PPO, PQN, GradientNoiseScale
from sbbatch.agents.base import replay
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.errors import InvalidValue

ABRUPT = {"low": 0.05, "high": 0.95, "window": 1, "warmup": 1, "ema": 1.0, "updates": 1}


def breaking(error, at):
    def callback(locals_, _):
        if locals_["self"].num_timesteps >= at:
            raise error
        return True

    return callback


def growing(algorithm, **kwargs):
    every = 4 if issubclass(algorithm, ReplayAgent) else 1
    agent = make_agent(algorithm, batch_size_callback=ABS(16, 64, check_every=every, **ABRUPT), **kwargs)
    agent.divergence = lambda before, after: 0.0
    return agent


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("lost")])
def test_a_training_that_broke_off_leaves_no_callback_behind(algorithm, error):
    agent = growing(algorithm)
    with pytest.raises(type(error)):
        agent.learn(500, callback=breaking(error, 150))
    assert agent.update_hooks == []
    assert agent.batch_scaling_state["state"]["size"] == 64
    agent.batch_size_callback = None
    agent.resize_batch(16)
    agent.learn(100, reset_num_timesteps=False)
    assert getattr(agent, agent.batch_scaling.size_name) == 16


def test_a_callback_taken_away_while_the_agent_learns_goes_on_to_the_end_of_the_run(algorithm):
    agent = growing(algorithm)

    def take_away(*_):
        agent.batch_size_callback = None
        return True

    agent.learn(300, callback=take_away)
    assert getattr(agent, agent.batch_scaling.size_name) == 64
    agent.resize_batch(16)
    agent.learn(100, reset_num_timesteps=False)
    assert getattr(agent, agent.batch_scaling.size_name) == 16


def test_a_callback_that_goes_on_elsewhere_leaves_the_first_agent_its_own_state(algorithm):
    first = growing(algorithm)
    with pytest.raises(RuntimeError):
        first.learn(500, callback=breaking(RuntimeError(), 150))
    n_rows = len(first.batch_scaling_state["state"]["history"])
    second = make_agent(algorithm, batch_size_callback=first.batch_size_callback, seed=1).learn(400)
    assert len(second.batch_scaling_state["state"]["history"]) > n_rows
    assert len(first.batch_scaling_state["state"]["history"]) == n_rows


def test_a_copy_of_an_interrupted_agent_learns_without_its_callback(algorithm):
    agent = growing(algorithm)
    with pytest.raises(KeyboardInterrupt):
        agent.learn(500, callback=breaking(KeyboardInterrupt(), 150))
    duplicate = copy.deepcopy(agent)
    duplicate.batch_size_callback = None
    duplicate.learn(50, reset_num_timesteps=False)


def test_a_size_that_the_callback_decides_is_not_for_load(algorithm, tmp_path):
    agent = growing(algorithm).learn(100)
    agent.save(tmp_path / "model")
    name = agent.batch_scaling.size_name
    told = refusal(InvalidValue, algorithm.load, tmp_path / "model", **{name: 32})
    assert told.startswith(f"load: {name}: ABS decides it; leave it out")
    loaded = algorithm.load(tmp_path / "model", batch_size_callback=None, **{name: 32})
    assert getattr(loaded, name) == 32


def test_a_length_given_to_load_replaces_the_one_that_was_asked_for(rollout_algorithm, tmp_path):
    agent = make_agent(rollout_algorithm, n_steps=16).learn(16)
    agent.set_n_steps(64)
    agent.save(tmp_path / "model")
    assert rollout_algorithm.load(tmp_path / "model").n_steps == 64
    loaded = rollout_algorithm.load(tmp_path / "model", env="CartPole-v1", n_steps=8)
    loaded.learn(8)
    assert loaded.n_steps == 8


def test_a_reference_left_open_becomes_the_length_that_was_asked_for(rollout_algorithm, tmp_path):
    agent = make_agent(rollout_algorithm, n_steps=16, n_epochs=2).learn(16)
    agent.set_n_steps(64)
    agent.save(tmp_path / "model")
    assert rollout_algorithm.load(tmp_path / "model").n_epochs == 8
    loaded = rollout_algorithm.load(tmp_path / "model", epoch_reference=None)
    assert (loaded.n_steps, loaded.n_epochs, loaded.epochs_for(128)) == (64, 2, 4)


def test_minibatches_are_checked_against_the_length_that_was_asked_for(tmp_path):
    agent = make_agent(PQN, n_steps=16, n_minibatches=2).learn(16)
    agent.set_n_steps(64)
    agent.save(tmp_path / "model")
    assert "n_steps: got 64" in refusal(InvalidValue, PQN.load, tmp_path / "model", n_minibatches=3)
    assert PQN.load(tmp_path / "model", n_minibatches=3, n_steps=9).batch_size == 3


def test_no_minibatch_of_one_sample():
    agent = make_agent(PPO, n_steps=32, batch_size=2)
    assert "expected at least 32" in refusal(InvalidValue, agent.set_n_steps, 16)


def test_samples_per_step_need_an_update_to_be_asked_for():
    told = refusal(InvalidValue, make_agent, DQN, samples_per_step=8.0, gradient_steps=0)
    assert told.startswith("gradient_steps: got 0, with which samples_per_step has no effect")


def test_a_measurement_goes_on_without_the_replay_memory(replay_algorithm, tmp_path):
    still = {"learning_rate": 1e-12, "target_update_interval": 10_000}
    callback = ABS(16, 16, check_every=8, updates=6, window=5, warmup=5)
    agent = make_agent(replay_algorithm, batch_size_callback=callback, train_freq=1, **still).learn(100)
    while callback.get_state()["measuring"] is None:
        agent.learn(1, reset_num_timesteps=False)
    agent.save(tmp_path / "model")
    loaded = replay_algorithm.load(tmp_path / "model", env="CartPole-v1", learning_starts=0)
    loaded.learn(12, reset_num_timesteps=False)
    assert loaded.batch_size_callback.history[-1]["divergence"] == 0.0
    assert len(loaded.batch_size_callback.history) > len(callback.history)


# ------------------------------------------------------------------------------------------------------- gradients


def test_the_gradients_of_the_parts_average_to_that_of_the_batch(value_algorithm):
    sizes = {"n_steps": 16} if value_algorithm is PQN else {"batch_size": 16}
    agent = make_agent(value_algorithm, **sizes).learn(60)
    (whole, n), (parts, part_size) = agent.gradient_parts(1), agent.gradient_parts(4)
    assert (n, part_size) == (16, 4)
    assert parts.shape == (4, sum(p.numel() for p in agent.q_net.parameters()))
    if (
        "noisy" not in str(agent.q_net).lower() and value_algorithm.__name__ != "IQN"
    ):  # else each part has its own noise
        assert th.allclose(parts.mean(dim=0), whole[0], rtol=1e-3, atol=1e-6)
    assert whole.abs().max() > 0


def test_importance_weights_count_in_the_gradients_too(replay_algorithm):
    agent = make_agent(replay_algorithm, batch_size=16).learn(60)
    batch = agent._sample_replay(16)
    first_part = th.tensor([1.0] * 4 + [0.0] * 12)
    agent._sample_replay = lambda _: replace(batch, weights=first_part)
    gradients, _ = agent.gradient_parts(4)
    assert gradients[0].any()
    assert not gradients[1:].any()


def test_measuring_gradients_changes_nothing(value_algorithm):
    kwargs = {"n_steps": 16} if value_algorithm is PQN else {"batch_size": 16}
    every = 1 if value_algorithm is PQN else 8
    plain = make_agent(value_algorithm, **kwargs).learn(100)
    callback = GradientNoiseScale(16, 16, check_every=every, n_parts=4)
    measured = make_agent(value_algorithm, batch_size_callback=callback, **kwargs).learn(100)
    assert len(callback.history) > 2
    for ours, theirs in zip(measured.policy.parameters(), plain.policy.parameters(), strict=True):
        assert th.equal(ours, theirs)


def test_the_probe_has_different_states_of_the_newest_transitions(replay_algorithm):
    class Draws:
        def choice(self, newest, size, replace):
            assert not replace
            self.newest, self.size = newest, size
            return newest[:size]

    agent, draws = make_agent(replay_algorithm, buffer_size=100).learn(250), Draws()
    observations = agent.probe_observations(30, draws)
    assert len(observations) == draws.size == 30
    assert len(set(draws.newest.tolist())) == 100
    assert len(agent.probe_observations(1_000, np.random.default_rng(0))) == 100


def test_the_newest_transitions_are_a_fixed_number_of_them(replay_algorithm, monkeypatch):
    monkeypatch.setattr(replay, "RECENT", 30)
    agent = make_agent(replay_algorithm).learn(100)
    found = agent.probe_observations(1_000, np.random.default_rng(0)).numpy()
    newest = agent.replay_buffer.observations[-30:, 0]
    assert sorted(found.tolist()) == sorted(newest.tolist())
