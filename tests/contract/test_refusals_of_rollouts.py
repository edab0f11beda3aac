"""What agents that learn from rollouts cannot be made with is told in one line."""

import math

import gymnasium as gym
import numpy as np
import pytest
from contract_tools import SpaceEnv, differ, make_agent, refusal, weights
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from torch import nn

from sbbatch import PPO, PQN
from sbbatch.batch import GradientNoiseScale
from sbbatch.errors import InvalidType, InvalidValue

BOTH = [
    *(("n_steps", value) for value in (0, -3, 8.0, "x", None, True)),
    *(("n_epochs", value) for value in (0, 1.5, "x", None)),
    *(("gamma", value) for value in (1.5, -0.1, math.nan, True, "0.99")),
    *(("learning_rate", value) for value in (1e30, 0.0, "1e-4")),
    *(("max_grad_norm", value) for value in (0, -10, math.nan, "x")),
    *(("seed", value) for value in (-1, "lucky")),
    *(("stats_window_size", value) for value in (0, 2.5, None)),
    *(("verbose", value) for value in (-1, "x")),
    *(("epoch_reference", value) for value in (0, "x")),
    ("scale_epochs", 1),
    ("tensorboard_log", 5),
    ("device", "gpu"),
]
OF_PQN = [
    *(("n_minibatches", value) for value in (0, 2.0, "x", None)),
    *(("q_lambda", value) for value in (-0.1, 1.1, math.nan, "x", None)),
    ("exploration_final_eps", 7),
    ("exploration_initial_eps", -0.5),
    ("exploration_fraction", 2),
]
OF_PPO = [
    *(("batch_size", value) for value in (0, 1, 64.0, "x", None)),
    *(("gae_lambda", value) for value in (-0.1, 1.1, "x")),
    *(("clip_range", value) for value in (-0.2, "x", math.nan)),
    *(("clip_range_vf", value) for value in (0, -0.2, "x")),
    *(("target_kl", value) for value in (0, "x", math.inf)),
    *(("ent_coef", value) for value in (-1, "x")),
    *(("vf_coef", value) for value in (-1, math.nan)),
    ("max_grad_norm", None),
    ("normalize_advantage", 1),
    ("use_sde", "x"),
    ("sde_sample_freq", -2),
    *(("rollout_buffer_class", value) for value in ("x", int, ReplayBuffer)),
    ("rollout_buffer_kwargs", 5),
]
CASES = [
    *((algorithm, *case) for algorithm in (PQN, PPO) for case in BOTH),
    *((PQN, *case) for case in OF_PQN),
    *((PPO, *case) for case in OF_PPO),
]


@pytest.mark.parametrize(("algorithm", "argument", "value"), CASES)
def test_a_bad_argument_is_refused_in_one_line_that_names_it(algorithm, argument, value):
    told = refusal((InvalidType, InvalidValue), make_agent, algorithm, **{argument: value})
    assert told.startswith(f"{argument}: got ")


@pytest.mark.parametrize(
    ("algorithm", "misspelt", "name"),
    [(PQN, "n_minibatch", "n_minibatches"), (PQN, "qlambda", "q_lambda"), (PPO, "bach_size", "batch_size")],
)
def test_a_misspelt_argument_comes_with_the_right_name(algorithm, misspelt, name):
    told = refusal(InvalidType, make_agent, algorithm, **{misspelt: 0.5})
    assert told == f"{algorithm.__name__}: unknown argument '{misspelt}'; did you mean '{name}'?"


def test_a_float_that_should_be_an_int_comes_with_the_int(rollout_algorithm):
    assert "did you mean 8?" in refusal(InvalidType, make_agent, rollout_algorithm, n_steps=8.0)


@pytest.mark.parametrize("argument", ["learning_rate", "clip_range", "clip_range_vf"])
@pytest.mark.parametrize("schedule", [lambda p: None, lambda p: "x", lambda p: math.nan, lambda p: -1.0, lambda: 1.0])
def test_a_schedule_is_tried_before_the_run(argument, schedule):
    told = refusal((InvalidType, InvalidValue), make_agent, PPO, **{argument: schedule})
    assert told.startswith(f"{argument}: at the progress remaining ")


def test_samples_that_do_not_split_are_refused_with_the_nearest_that_do():
    told = refusal(InvalidValue, make_agent, PQN, n_steps=7, n_minibatches=4)
    assert told.startswith("n_steps: got 7, whose 7 samples in 1 environments do not split into 4 equal minibatches; ")


def test_one_sample_cannot_be_normalised():
    assert refusal(InvalidValue, make_agent, PPO, n_steps=1).startswith("n_steps: got 1 in one environment")
    make_agent(PPO, n_steps=1, batch_size=1, normalize_advantage=False).learn(4)


def test_noise_is_not_for_pqn_nor_state_dependent_noise_for_discrete_actions():
    assert "PQN explores by epsilon" in refusal(InvalidValue, make_agent, PQN, policy_kwargs={"noisy_sigma0": 0.5})
    assert refusal(InvalidValue, make_agent, PPO, use_sde=True).startswith("use_sde: needs Box actions")


def test_ppo_has_no_gradients_of_parts():
    told = refusal(InvalidValue, make_agent(PPO, batch_size_callback=GradientNoiseScale()).learn, 8)
    assert "PPO has no fixed targets" in told


VECTOR = spaces.Box(-1, 1, (4,), np.float32)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (spaces.Tuple([spaces.Discrete(2)]), "action space: got Tuple(Discrete(2)), expected Box, Discrete, "),
        (spaces.Dict({"a": spaces.Discrete(2)}), "action space: got Dict(a: Discrete(2)), expected Box, Discrete, "),
        (spaces.Box(-np.inf, np.inf, (2,)), "action space: got Box(2,) of float32 without bounds"),
        (spaces.MultiBinary((2, 2)), "action space: got MultiBinary((2, 2)), expected one dimension"),
        (spaces.Discrete(3, start=1), "action space: got actions that start at 1"),
        (spaces.MultiDiscrete([2, 3], start=[0, 1]), "action space: got actions that start at [0 1]"),
    ],
)
def test_actions_that_ppo_cannot_play_are_refused(actions, message):
    assert refusal(InvalidValue, PPO, "MlpPolicy", SpaceEnv(VECTOR, actions)).startswith(message)


class Anything(SpaceEnv):
    def step(self, action):
        assert self.action_space.contains(action)
        return self.observation_space.sample(), 1.0, False, False, {}


@pytest.mark.parametrize(
    "actions",
    [spaces.Box(-2, 2, (2,)), spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)],
)
def test_actions_of_every_kind_are_played_and_measured_by_ppo(actions):
    agent = make_agent(PPO, env=lambda: Anything(VECTOR, actions)).learn(20)
    probe = agent.probe_observations(3, np.random.default_rng(0))
    before = agent.behavior(probe)
    assert agent.divergence(before, before) == pytest.approx(0.0, abs=1e-7)
    agent.learn(20)
    assert agent.divergence(before, agent.behavior(probe)) > 0


@pytest.mark.parametrize(
    ("policy_kwargs", "message"),
    [
        ({"net_arch": {"pi": [8], "vv": [8]}}, "policy_kwargs: net_arch: unknown key 'vv'; known: pi, vf"),
        ({"net_arch": {"pi": [-8]}}, "policy_kwargs: net_arch['pi'][0]: got -8"),
        ({"net_arch": 8}, "policy_kwargs: net_arch: got int 8"),
        ({"log_std_init": "x"}, "policy_kwargs: log_std_init: got str 'x'"),
        ({"ortho_init": 1}, "policy_kwargs: ortho_init: got int 1"),
        ({"optimizer_class": "Adam"}, "policy_kwargs: optimizer_class: got str 'Adam'"),
        ({"features_extractor_class": gym.Env}, "policy_kwargs: features_extractor_class: got class Env"),
        ({"use_sde": True}, "policy_kwargs: 'use_sde' is set by the agent"),
    ],
)
def test_what_ppos_policy_would_find_out_late_is_refused(policy_kwargs, message):
    assert message in refusal((InvalidType, InvalidValue), make_agent, PPO, policy_kwargs=policy_kwargs)


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
    before = weights(agent)
    assert agent.learn(8).num_timesteps == 8
    assert differ(before, weights(agent))
