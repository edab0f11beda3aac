"""What an agent passes on, to its policy, its buffer, its callbacks and SB3, is checked when it is given."""

import inspect
import math

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from contract_tools import SpaceEnv, make_agent, one_of_each_kind, refusal
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from torch import nn

from sbbatch import ABS, DQN, PPO, PQN, BatchSizeSchedule, GradientNoiseScale
from sbbatch.agents.base import rollout
from sbbatch.errors import InvalidType, InvalidValue, UserError
from sbbatch.networks.heads import HEADS
from sbbatch.replay import UniformSampler

# ------------------------------------------------------------------------------------------------ policy and actions


@pytest.mark.parametrize("policy", [5, None, int, lambda *_: None, stable_baselines3.dqn.MlpPolicy])
def test_something_else_than_a_policy_is_refused(algorithm, policy):
    assert refusal(InvalidType, algorithm, policy, "CartPole-v1").startswith("policy: got ")


# Everything about networks in tests/networks/test_checks.py; here, that agents have it checked.
@pytest.mark.parametrize(
    ("policy_kwargs", "named"),
    [
        (5, "policy_kwargs"),
        ({3: 4}, "int 3"),
        ({"lr_schedule": 3}, "'lr_schedule' is set by the agent"),
        ({"net_ach": [64]}, "did you mean 'net_arch'?"),
        ({"net_arch": [-5]}, "net_arch"),
        ({"net_arch": [10**15]}, "memory"),
        ({"optimizer_kwargs": {"ep": 1}}, "did you mean 'eps'?"),
        ({"features_extractor_kwargs": {"paddin": 1}}, "paddin"),
    ],
)
def test_policy_kwargs_that_cannot_be_are_refused(algorithm, policy_kwargs, named):
    told = refusal(UserError, make_agent, algorithm, policy_kwargs=policy_kwargs)
    assert "policy_kwargs" in told
    assert named in told


@pytest.mark.parametrize(
    ("algorithm_class", "policy_kwargs", "named"),
    [
        (DQN, {"head_class": nn.ReLU}, "'head_class' is set by the agent"),
        (DQN, {"loss": ["mse"]}, "did you mean 'mse'?"),
        (PQN, {"noisy_sigma0": 0.5}, "noisy_sigma0"),
        (PPO, {"use_sde": True}, "'use_sde' is set by the agent"),
        (PPO, {"net_arch": {"pi": [8], "vv": [8]}}, "unknown key 'vv'"),
        (PPO, {"net_arch": {"pi": [-8]}}, "net_arch['pi'][0]"),
        (PPO, {"net_arch": 8}, "net_arch"),
        (PPO, {"log_std_init": "x"}, "log_std_init"),
        (PPO, {"ortho_init": 1}, "ortho_init"),
        (PPO, {"optimizer_class": "Adam"}, "did you mean torch.optim.Adam?"),
        (PPO, {"features_extractor_class": gym.Env}, "features_extractor_class"),
    ],
)
def test_kwargs_that_the_policy_of_an_agent_cannot_have_are_refused(algorithm_class, policy_kwargs, named):
    assert named in refusal(UserError, make_agent, algorithm_class, policy_kwargs=policy_kwargs)


def test_a_key_of_another_head_is_named(replay_algorithm):
    own = inspect.signature(replay_algorithm).parameters["head"].default
    arguments = {head: set(inspect.signature(head).parameters) for head in HEADS.values()}
    for key in sorted(set.union(*arguments.values()) - arguments[own]):
        assert f"unknown key '{key}'" in refusal(InvalidType, make_agent, replay_algorithm, policy_kwargs={key: 1})


VECTOR = spaces.Box(-1, 1, (4,), np.float32)
UNPLAYABLE = [
    spaces.Tuple([spaces.Discrete(2)]),
    spaces.Box(-np.inf, np.inf, (2,)),
    spaces.Box(-1, 1, (0,)),
    spaces.MultiBinary((2, 2)),
    spaces.Discrete(3, start=1),
    spaces.MultiDiscrete([2, 3], start=[0, 1]),
]


@pytest.mark.parametrize("actions", UNPLAYABLE)
def test_actions_that_no_agent_can_play_are_refused(algorithm, actions):
    assert "action space" in refusal(InvalidValue, algorithm, "MlpPolicy", SpaceEnv(VECTOR, actions))


def test_agents_with_action_values_need_discrete_actions(value_algorithm):
    assert "needs a Discrete action space" in refusal(InvalidValue, value_algorithm, "MlpPolicy", "Pendulum-v1")


# ------------------------------------------------------------------------------------------------------ replay buffer


@pytest.mark.parametrize(
    ("buffer_class", "key"),
    [
        *((buffer_class, key) for buffer_class in (None, ReplayBuffer) for key in ("buffer_size", "n_envs", "device")),
        *((None, key) for key in ("n_steps", "gamma", "sampler_kwargs")),
    ],
)
def test_what_the_agent_tells_its_buffer_cannot_be_told_otherwise(buffer_class, key):
    kwargs = {"replay_buffer_class": buffer_class, "replay_buffer_kwargs": {key: 3}}
    assert f"'{key}' is set by the agent" in refusal(InvalidType, make_agent, DQN, **kwargs)


@pytest.mark.parametrize("kind", ["vector", "image", "dict"])
@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"frame_compression": "lz5"}, "did you mean 'lz4'?"),
        ({"handle_timeout_termination": "x"}, "handle_timeout_termination"),
        ({"sampler_class": 3}, "sampler_class"),
        ({"sampler_class": UniformSampler, "sampler_kwargs": {"n_indices": 3}}, "'n_indices' is set by the agent"),
        ({"frame_stak": 3}, "did you mean 'frame_stack'?"),
    ],
)
def test_arguments_of_the_buffer_are_checked_whatever_is_observed(kind, kwargs, named):
    assert named in refusal(UserError, make_agent, DQN, kind, replay_buffer_kwargs=kwargs)


# -------------------------------------------------------------------------------------------------------------- learn


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("total_timesteps", value) for value in (0, math.nan, 2.5, "x", None, True)),
        *(("log_interval", value) for value in (0, 2.5, "x")),
        *(("callback", value) for value in (5, [lambda *_: True], BaseCallback)),
    ],
)
@one_of_each_kind
def test_what_learn_cannot_do_is_refused(algorithm, argument, value):
    assert argument in refusal(UserError, make_agent(algorithm).learn, **{"total_timesteps": 20, argument: value})


# ------------------------------------------------------------------------------------------- callbacks that scale


def refused(agent, callback):
    """What is said when training starts, alike for a callback of the agent and of the run."""
    told = refusal(InvalidValue, agent.learn, 44, callback=callback)
    agent.batch_size_callback = callback
    assert refusal(InvalidValue, agent.learn, 44) == told
    agent.batch_size_callback = None
    agent.learn(44)  # nothing is left over
    return told


@pytest.mark.parametrize(
    ("algorithm_class", "settings", "callback", "named"),
    [
        (DQN, {}, lambda: ABS(16, 512), "max_size: got 512, expected at most buffer_size = 500"),
        (DQN, {"batch_divisor": 4}, lambda: ABS(18, 64), "min_size: got 18"),
        (DQN, {}, lambda: ABS(low=0.96), "low 0.96 is not below high 0.95"),
        (DQN, {}, lambda: BatchSizeSchedule.piecewise({0: 8, 0.301: 5_000, 0.305: 8}), "size: got 5000"),
        (PQN, {}, lambda: ABS(7, 16), "min_size: got 7"),
        (PPO, {}, lambda: ABS(7, 16), "min_size: got 7"),
        (PPO, {}, lambda: GradientNoiseScale(16, 32), "PPO has no fixed targets"),
    ],
)
def test_sizes_that_the_agent_cannot_have_are_refused_when_training_starts(algorithm_class, settings, callback, named):
    assert named in refused(make_agent(algorithm_class, **settings), callback())


def test_a_bound_above_the_memory_is_refused(rollout_algorithm, monkeypatch):
    agent = make_agent(rollout_algorithm)
    # Four numbers of four bytes are 16, which PPO needs twice; the present rollout makes room.
    monkeypatch.setattr(rollout, "free_memory", lambda: 16 * rollout_algorithm.rollout_copies * (100 - agent.n_steps))
    assert refused(agent, ABS(16, 128)).endswith("expected at most 100")


@pytest.mark.parametrize("size", [0, 8.0, "8", None, True, 10**12])
@one_of_each_kind
def test_a_size_that_is_none_is_refused_and_the_old_one_kept(algorithm, size):
    agent = make_agent(algorithm)
    knob = agent.batch_scaling.knob
    before = getattr(agent, knob)
    assert refusal(UserError, agent.resize_batch, size).startswith(f"{knob}: got ")
    assert getattr(agent, knob) == before


def test_a_rollout_that_cannot_be_split_comes_with_the_nearest_length(rollout_algorithm):
    told = refusal(InvalidValue, make_agent(rollout_algorithm).set_n_steps, 7)
    assert told.endswith("the nearest that do: 8")
    with_pairs = make_agent(PPO, n_steps=32, batch_size=2)
    assert "expected at least 32" in refusal(InvalidValue, with_pairs.set_n_steps, 16)  # no minibatch of one sample


@one_of_each_kind
def test_two_callbacks_that_change_the_size_are_refused(algorithm):
    agent, schedule = make_agent(algorithm), BatchSizeSchedule.linear(16, 32)
    for two in ([ABS(16, 32), schedule], [ABS(16, 32), CallbackList([schedule])]):
        assert "ABS and BatchSizeSchedule" in refusal(InvalidValue, agent.learn, 60, callback=two)
    agent.batch_size_callback = ABS(16, 32)
    assert "BatchSizeSchedule" in refusal(InvalidValue, agent.learn, 60, callback=schedule)
