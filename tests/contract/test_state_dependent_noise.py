"""PPO with gSDE, whose noise is neither a parameter nor drawn at every step, is copied, saved and measured."""

import copy

import numpy as np
import pytest
import torch as th
from contract_tools import assert_same_weights, weights

from sbbatch import ABS, PPO

KWARGS = [{}, {"squash_output": True}, {"full_std": False}, {"use_expln": True}]
OBSERVATIONS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def make_agent(**kwargs):
    settings = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "seed": 0, "device": "cpu", "use_sde": True} | kwargs
    return PPO("MlpPolicy", "Pendulum-v1", **settings)


def going_on(agents, n_steps):
    """Weights of each after as many more steps, with the same random numbers."""
    states, found = (th.get_rng_state(), np.random.get_state()), []
    for agent in agents:
        th.set_rng_state(states[0])
        np.random.set_state(states[1])
        found.append(weights(agent.learn(n_steps, reset_num_timesteps=False)))
    return found


def noise_of(agent):
    return agent.policy.action_dist.exploration_mat


@pytest.mark.parametrize("policy_kwargs", KWARGS)
def test_a_copy_goes_on_as_the_agent_does(policy_kwargs):
    agent = make_agent(policy_kwargs=policy_kwargs).learn(192)
    duplicate = copy.deepcopy(agent)
    assert th.equal(noise_of(agent), noise_of(duplicate))
    assert noise_of(agent) is not noise_of(duplicate)
    assert_same_weights(*going_on([agent, duplicate], 128))


def test_an_agent_can_be_copied_before_it_learns_and_while_it_does():
    agent, copies = make_agent(), []

    def copying(*_):
        if agent.num_timesteps in (1, 100):  # in the first rollout, and after an update
            copies.append(copy.deepcopy(agent))
        return True

    unlearned = copy.deepcopy(agent)
    agent.learn(128, callback=copying)
    assert [one.num_timesteps for one in copies] == [1, 100]
    assert copies[1].learn(64).num_timesteps == 64
    assert_same_weights(*going_on([unlearned, make_agent()], 64))


@pytest.mark.parametrize("policy_kwargs", KWARGS)
def test_a_loaded_agent_plays_alike_and_learns_on(policy_kwargs, tmp_path):
    agent = make_agent(policy_kwargs=policy_kwargs).learn(192)
    agent.save(tmp_path / "m")
    first, second = (PPO.load(tmp_path / "m", env="Pendulum-v1", device="cpu") for _ in range(2))
    played, expected = (one.predict(OBSERVATIONS, deterministic=True)[0] for one in (first, agent))
    np.testing.assert_array_equal(played, expected)
    assert_same_weights(*going_on([first, second], 128))
    assert first.num_timesteps == 320


def test_the_noise_of_a_loaded_agent_has_the_scale_it_was_trained_to(tmp_path):
    agent = make_agent()
    with th.no_grad():
        agent.policy.log_std.fill_(-9.0)
    agent.save(tmp_path / "m")
    loaded, other = PPO.load(tmp_path / "m", device="cpu"), make_agent()
    other.set_parameters(agent.get_parameters())
    for one in (loaded, other):
        assert 0 < noise_of(one).abs().max() < 10 * np.exp(-9.0)


def test_the_noise_of_a_loaded_agent_takes_no_random_number_from_the_run(tmp_path):
    agent = make_agent().learn(128)
    agent.save(tmp_path / "m")
    state = th.get_rng_state()
    PPO.load(tmp_path / "m", env="Pendulum-v1", device="cpu")
    assert th.equal(th.get_rng_state(), state)


@pytest.mark.parametrize("policy_kwargs", KWARGS)
def test_the_length_of_rollouts_adapts(policy_kwargs):
    callback = ABS(64, 128, check_every=1, warmup=1, ema=1.0, low=1e-9, high=1e-8)
    agent = make_agent(policy_kwargs=policy_kwargs, batch_size_callback=callback)
    agent.divergence = lambda before, after: 0.0 if agent.num_timesteps < 256 else 1.0
    agent.learn(512)
    assert [row["size"] for row in callback.history] == [64, 128, 128, 64, 64, 64, 64]
    assert agent.n_steps == 64


def test_the_divergence_of_a_policy_is_that_of_its_gaussians():
    agent = make_agent().learn(128)
    probe = th.from_numpy(OBSERVATIONS)
    mean, deviation = agent.behavior(probe)
    assert mean.shape == deviation.shape == (5, 1)
    assert agent.divergence((mean, deviation), (mean, deviation)) == pytest.approx(0.0, abs=1e-7)
    shifted = agent.divergence((mean, deviation), (mean + deviation, deviation))
    assert shifted == pytest.approx(0.5, rel=1e-5)  # KL of equal Gaussians one deviation apart
    agent.learn(128)
    assert agent.divergence((mean, deviation), agent.behavior(probe)) > 0
