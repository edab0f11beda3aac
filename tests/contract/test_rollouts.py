"""Agents that learn from rollouts: what they collect, where they stop, what they are after loading."""

import copy
import inspect

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch as th
from contract_tools import (
    RecordedLogger,
    SpaceEnv,
    StopAt,
    assert_same_weights,
    cart_poles,
    differ,
    make_agent,
    refusal,
    weights,
)
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from sbbatch import ABS, PPO, PQN
from sbbatch.agents.base.rollout import in_minibatches
from sbbatch.errors import InvalidType
from sbbatch.functional.schedules import linear_epsilon


def test_a_stopped_agent_goes_on_from_where_its_environments_are(rollout_algorithm):
    agent = make_agent(rollout_algorithm, env=cart_poles(2))
    agent.learn(100, callback=StopAt(46))
    assert agent.num_timesteps == 46
    envs = agent.get_env().venv if hasattr(agent.get_env(), "venv") else agent.get_env()
    states = np.array([env.unwrapped.state for env in envs.envs], dtype=np.float32)
    np.testing.assert_array_equal(agent._last_obs, states)
    assert agent.learn(50, reset_num_timesteps=False).num_timesteps == 46 + 56


# --------------------------------------------------------------------------------------------------- saved and loaded


def test_what_a_run_is_made_of_can_be_changed_when_loading(rollout_algorithm, tmp_path):
    make_agent(rollout_algorithm, n_steps=8).save(tmp_path / "m")
    loaded = rollout_algorithm.load(tmp_path / "m", "CartPole-v1", device="cpu", n_epochs=3, scale_epochs=False)
    assert (loaded.n_epochs, loaded.epochs_for(16)) == (3, 3)
    loaded = rollout_algorithm.load(tmp_path / "m", "CartPole-v1", device="cpu", n_epochs=3, epoch_reference=None)
    assert (loaded.n_epochs, loaded.epochs_for(16)) == (3, 6)
    loaded = rollout_algorithm.load(tmp_path / "m", cart_poles(4), device="cpu", n_steps=4).learn(32)
    assert loaded.rollout_buffer.rewards.size == 16
    assert loaded.batch_size * loaded.n_minibatches == 16


def test_a_batch_size_is_changed_where_it_is_an_argument(tmp_path):
    make_agent(PPO, n_steps=8, batch_size=2).save(tmp_path / "ppo")
    loaded = PPO.load(tmp_path / "ppo", "CartPole-v1", device="cpu", batch_size=4)
    loaded.set_n_steps(16)
    loaded.learn(16)
    assert (loaded.n_minibatches, loaded.batch_size) == (2, 8)
    make_agent(PQN).save(tmp_path / "pqn")
    told = refusal(InvalidType, PQN.load, tmp_path / "pqn", device="cpu", batch_size=4)
    assert told.startswith("load: unknown attribute 'batch_size'")


def test_a_new_seed_starts_every_generator_anew(rollout_algorithm, tmp_path):
    make_agent(rollout_algorithm).learn(40).save(tmp_path / "m")
    runs = []
    for seed in (5, 5, 6):
        loaded = rollout_algorithm.load(tmp_path / "m", env=gym.make("CartPole-v1"), device="cpu", seed=seed)
        runs.append(weights(loaded.learn(40)))
    assert_same_weights(runs[0], runs[1])
    assert differ(runs[0], runs[2])


# ----------------------------------------------------------------------------------------------------------- SB3's PPO

PPO_SETTINGS = {"n_steps": 32, "batch_size": 16, "n_epochs": 3, "seed": 3, "device": "cpu"}


@pytest.mark.parametrize(
    ("env", "kwargs"),
    [
        ("CartPole-v1", {}),
        ("CartPole-v1", {"clip_range_vf": 0.2, "target_kl": 0.01, "ent_coef": 0.01}),
        ("Pendulum-v1", {"clip_range_vf": 0.2}),
        ("Pendulum-v1", {"use_sde": True, "sde_sample_freq": 4}),
    ],
)
def test_ppo_has_the_weights_of_sb3s(env, kwargs):
    ours, theirs = (
        agent("MlpPolicy", env, **PPO_SETTINGS, **kwargs).learn(96) for agent in (PPO, stable_baselines3.PPO)
    )
    assert_same_weights(weights(ours), weights(theirs))
    assert (ours.num_timesteps, ours._n_updates) == (96, theirs._n_updates)


def test_the_arguments_of_ppo_are_sb3s_and_what_is_new_is_keyword_only():
    ours, theirs = (list(inspect.signature(cls).parameters.values()) for cls in (PPO, stable_baselines3.PPO))
    shared = ours[: len(theirs)]
    assert [(one.name, one.default) for one in shared] == [(one.name, one.default) for one in theirs]
    assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in ours[len(theirs) :])


# ---------------------------------------------------------------------------------------------------------------- PQN

REWARDS = [1.0, 0.0, 0.5, -1.0, 2.0]
NEXT_VALUES = [0.8, 0.6, 0.9, 1.2, 0.7]


class Script(gym.Env):
    """Shows the number of steps; rewards are written down, and where an episode ends."""

    observation_space = gym.spaces.Box(0, 100, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, terminated=None, truncated=None):
        self.terminated, self.truncated, self.count = terminated, truncated, 0

    def reset(self, *, seed=None, options=None):
        return np.array([self.count], dtype=np.float32), {}

    def step(self, action):
        now, self.count = self.count, self.count + 1
        final = 50 if now == self.truncated else self.count  # the real final observation is not the first of the next
        observation = np.array([final], dtype=np.float32)
        return observation, REWARDS[now], now == self.terminated, now == self.truncated, {}


def targets_of(q_lambda, **script):
    agent = make_agent(PQN, env=lambda: Script(**script), n_steps=5, n_minibatches=1, q_lambda=q_lambda, gamma=0.99)
    values = {0: 0.3, **{step + 1: value for step, value in enumerate(NEXT_VALUES)}, 50: 0.4}
    table = th.zeros(51)
    table[list(values)] = th.tensor(list(values.values()))
    agent.q_net.forward = lambda obs: table[obs[:, 0].long()].unsqueeze(1) - th.tensor([[0.0, 5.0]])
    agent.train = lambda: None
    agent.learn(5)
    np.testing.assert_allclose(agent.rollout_buffer.returns[:, 0], agent._samples()[2].numpy())
    return agent._samples()[2].tolist()


@pytest.mark.parametrize(
    ("q_lambda", "terminated", "expected"),
    [
        (0.65, 2, [1.61802978, 0.52965, 0.5, 1.1487455, 2.693]),
        (0.65, None, [2.05326878, 1.20601208, 1.55106773, 1.1487455, 2.693]),
        (0.0, 2, [1.792, 0.594, 0.5, 0.188, 2.693]),
        (1.0, 2, [1.49005, 0.495, 0.5, 1.66607, 2.693]),
    ],
)
def test_the_targets_of_pqn_are_those_worked_by_hand(q_lambda, terminated, expected):
    assert targets_of(q_lambda, terminated=terminated) == pytest.approx(expected, abs=1e-6)


def test_a_time_limit_goes_on_with_the_value_of_the_final_observation_and_cuts_the_trace():
    # From the end: 2.693 and 1.1487455 as above; 0.5 + 0.99 * 0.4 with V(final) = 0.4;
    # 0.99 * (0.65 * 0.896 + 0.35 * 0.6) = 0.784476; 1 + 0.99 * (0.65 * 0.784476 + 0.35 * 0.8) = 1.782010306
    expected = [1.782010306, 0.784476, 0.896, 1.1487455, 2.693]
    assert targets_of(0.65, truncated=2) == pytest.approx(expected, abs=1e-6)


def test_the_samples_of_pqn_belong_together_and_stand_in_the_order_of_time():
    agent = make_agent(PQN, env=cart_poles(3)).learn(12)
    rollout, (observations, actions, targets) = agent.rollout_buffer, agent._samples()
    assert len(np.unique(rollout.returns)) > 6
    for step in range(4):
        for env in range(3):
            sample = 3 * step + env
            np.testing.assert_array_equal(observations[sample], rollout.observations[step, env])
            assert actions[sample] == rollout.actions[step, env]
            assert targets[sample] == rollout.returns[step, env]


def test_every_epoch_has_each_sample_once_in_an_order_of_its_own():
    rng = np.random.default_rng(0)
    epochs = [[part.tolist() for part in in_minibatches(24, 4, rng)] for _ in range(2)]
    assert [len(part) for part in epochs[0]] == [6] * 4
    orders = [[index for part in epoch for index in part] for epoch in epochs]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(24))
    assert orders[0] != orders[1] != list(range(24)) != orders[0]


def test_pqn_learns_towards_its_targets():
    agent = make_agent(PQN, n_steps=64, n_epochs=20, learning_rate=1e-3, max_grad_norm=None)
    errors = []
    original = agent.train

    def train():
        observations, actions, targets = agent._samples()
        for step in (original, lambda: None):
            errors.append(agent.q_net.returns(observations).td_loss(actions, targets).mean().item())
            step()

    agent.train = train
    agent.learn(64)
    assert errors[1] < 0.5 * errors[0]


def test_every_environment_throws_its_own_coin_at_every_step():
    half = {"exploration_initial_eps": 0.5, "exploration_final_eps": 0.5}
    agent = make_agent(PQN, env=cart_poles(64), **half)
    agent.q_net.forward = lambda obs: th.tensor([[1.0, 0.0]]).repeat(len(obs), 1)
    agent.train = lambda: None
    agent.learn(64 * 4)
    greedy = (agent.rollout_buffer.actions == 0).reshape(4, 64)
    # Greedy ones and half of the explorers: 3/4 of 64 = 48 +- 3.5. One coin for all would give 64 or 32.
    assert all(36 < n < 60 for n in greedy.sum(axis=1))
    assert len({tuple(row) for row in greedy.tolist()}) == 4


def test_epsilon_follows_the_environment_steps():
    seen = []

    class Look(BaseCallback):
        def _on_step(self):
            seen.append(self.model.exploration_rate)
            return True

    kwargs = {"exploration_fraction": 0.5, "exploration_initial_eps": 0.8, "exploration_final_eps": 0.2}
    make_agent(PQN, env=cart_poles(2), **kwargs).learn(80, callback=Look())
    assert seen == pytest.approx([linear_epsilon(2 * step / 80, 0.5, 0.8, 0.2) for step in range(40)])
    assert seen[0] == 0.8
    assert seen[-1] == pytest.approx(0.2)


# Rollouts of 10 samples in minibatches of 4, 4 and 2: three gradient steps an epoch.
def test_gradient_steps_and_samples_are_counted_also_in_short_minibatches():
    agent = PPO("MlpPolicy", "CartPole-v1", n_steps=10, batch_size=4, n_epochs=3, device="cpu")
    logger = RecordedLogger()
    agent.set_logger(logger)
    agent.learn(20)
    assert (logger.seen["train/gradient_steps"], logger.seen["train/samples"]) == (2 * 9, 2 * 30)


def test_gradient_steps_that_an_early_stop_leaves_out_are_not_counted():
    kwargs = {"n_steps": 10, "batch_size": 4, "n_epochs": 50, "target_kl": 1e-3, "learning_rate": 0.05, "seed": 0}
    agent, made = PPO("MlpPolicy", "CartPole-v1", device="cpu", **kwargs), []
    agent.policy.optimizer.register_step_post_hook(lambda *_: made.append(1))
    agent.learn(10)
    assert 0 < len(made) < 3, "it is to stop within the first epoch"
    assert (agent._n_gradient_steps, agent._n_samples) == (len(made), 4 * len(made))


# ------------------------------------------------------------------------------------- PPO: actions, networks and gSDE


class Anything(SpaceEnv):
    def step(self, action):
        assert self.action_space.contains(action)
        return self.observation_space.sample(), 1.0, False, False, {}


@pytest.mark.parametrize(
    "actions",
    [
        gym.spaces.Box(-2, 2, (2,)),
        gym.spaces.Discrete(3),
        gym.spaces.MultiDiscrete([2, 3]),
        gym.spaces.MultiBinary(3),
    ],
)
def test_actions_of_every_kind_are_played_and_measured_by_ppo(actions):
    agent = make_agent(PPO, env=lambda: Anything(gym.spaces.Box(-1, 1, (4,), np.float32), actions)).learn(20)
    probe = agent.probe_observations(3, np.random.default_rng(0))
    before = agent.behavior(probe)
    assert agent.divergence(before, before) == pytest.approx(0.0, abs=1e-7)
    agent.learn(20)
    assert agent.divergence(before, agent.behavior(probe)) > 0


@pytest.mark.parametrize(
    ("net_arch", "of_policy", "of_values"),
    [([8, 6], [8, 6], [8, 6]), ({"pi": [8], "vf": [4]}, [8], [4]), ({"pi": [8]}, [8], []), ([], [], [])],
)
def test_networks_of_ppo_may_be_given_in_both_ways(net_arch, of_policy, of_values):
    agent = make_agent(PPO, policy_kwargs={"net_arch": net_arch})
    extractor = agent.policy.mlp_extractor
    for network, sizes in ((extractor.policy_net, of_policy), (extractor.value_net, of_values)):
        shapes = [(layer.in_features, layer.out_features) for layer in network if isinstance(layer, nn.Linear)]
        assert shapes == list(zip([4, *sizes], sizes, strict=False))  # CartPole shows four numbers
    assert agent.learn(8).num_timesteps == 8


NOISE = [{}, {"squash_output": True, "full_std": False, "use_expln": True}]
OBSERVATIONS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def make_sde_agent(**kwargs):
    settings = {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "seed": 0, "device": "cpu", "use_sde": True} | kwargs
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


@pytest.mark.parametrize("policy_kwargs", NOISE)
def test_a_copy_and_a_loaded_agent_with_state_dependent_noise_go_on_as_the_agent_does(policy_kwargs, tmp_path):
    unlearned, copies = make_sde_agent(policy_kwargs=policy_kwargs), []
    agent = copy.deepcopy(unlearned)

    def copying(*_):
        if agent.num_timesteps in (1, 25):  # in the first rollout, and after an update
            copies.append(copy.deepcopy(agent))
        return True

    agent.learn(48, callback=copying)
    assert [one.learn(16, reset_num_timesteps=False).num_timesteps for one in copies] == [17, 41]
    duplicate = copy.deepcopy(agent)
    assert th.equal(noise_of(agent), noise_of(duplicate))
    assert noise_of(agent) is not noise_of(duplicate)
    agent.save(tmp_path / "m")
    state = th.get_rng_state()
    first, second = (PPO.load(tmp_path / "m", env="Pendulum-v1", device="cpu") for _ in range(2))
    assert th.equal(th.get_rng_state(), state)  # loading takes no random number from the run
    played, expected = (one.predict(OBSERVATIONS, deterministic=True)[0] for one in (first, agent))
    np.testing.assert_array_equal(played, expected)
    assert_same_weights(*going_on([first, second], 32))
    assert_same_weights(*going_on([agent, duplicate], 32))


def test_the_noise_of_a_loaded_agent_has_the_scale_it_was_trained_to(tmp_path):
    agent = make_sde_agent()
    with th.no_grad():
        agent.policy.log_std.fill_(-9.0)
    agent.save(tmp_path / "m")
    loaded, other = PPO.load(tmp_path / "m", device="cpu"), make_sde_agent()
    other.set_parameters(agent.get_parameters())
    for one in (loaded, other):
        assert 0 < noise_of(one).abs().max() < 10 * np.exp(-9.0)


@pytest.mark.parametrize("policy_kwargs", NOISE)
def test_the_length_of_rollouts_with_state_dependent_noise_adapts(policy_kwargs):
    callback = ABS(16, 32, check_every=1, warmup=1, ema=1.0, low=1e-9, high=1e-8)
    agent = make_sde_agent(policy_kwargs=policy_kwargs, batch_size_callback=callback)
    agent.divergence = lambda before, after: 0.0 if agent.num_timesteps < 64 else 1.0
    agent.learn(128)
    assert [row["size"] for row in callback.history] == [16, 32, 32, 16, 16, 16, 16]


def test_the_divergence_of_a_policy_with_state_dependent_noise_is_that_of_its_gaussians():
    agent = make_sde_agent().learn(32)
    mean, deviation = agent.behavior(th.from_numpy(OBSERVATIONS))
    assert mean.shape == deviation.shape == (5, 1)
    assert agent.divergence((mean, deviation), (mean, deviation)) == pytest.approx(0.0, abs=1e-7)
    shifted = agent.divergence((mean, deviation), (mean + deviation, deviation))
    assert shifted == pytest.approx(0.5, rel=1e-5)  # KL of equal Gaussians one deviation apart
