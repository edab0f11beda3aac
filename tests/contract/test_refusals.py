"""What cannot be is refused in one line that names it, before anything is built and before a run begins."""

import inspect
import math

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from contract_tools import SpaceEnv, cart_poles, make_agent, one_of_each_kind, refusal, size_name, size_of
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from torch import nn

from sbbatch import ABS, DQN, PPO, PQN, BatchSizeSchedule, GradientNoiseScale
from sbbatch.agents.base import rollout
from sbbatch.components.augmentation import Shift
from sbbatch.components.bootstrap import Double
from sbbatch.errors import InvalidType, InvalidValue, UserError
from sbbatch.networks.heads import HEADS
from sbbatch.replay import UniformSampler

# ----------------------------------------------------------------------------------------- arguments of the constructor


OF_ALL = [
    *(("gamma", value) for value in (1.5, -0.1, math.nan, True, "0.99")),
    *(("learning_rate", value) for value in (1e30, 0.0, "1e-4", lambda progress: 0.0)),
    *(("max_grad_norm", value) for value in (0, math.nan, "x")),
    *(("seed", value) for value in (-1, "lucky", 0.5)),
    *(("stats_window_size", value) for value in (0, 2.5, None)),
    *(("verbose", value) for value in (-1, "x")),
    *(("device", value) for value in ("gpu", "", "meta")),
    *(("batch_size_callback", value) for value in (5, "ABS")),
    *(("n_steps", value) for value in (0, -3, 8.0, "x", True)),
    ("tensorboard_log", 5),
]
OF_REPLAY = [
    *(("batch_size", value) for value in (0, -4, 32.0, "sixteen", True, None, 501)),
    *(("buffer_size", value) for value in (0, 1e4, 10**12)),
    *(("train_freq", value) for value in (0, (0, "step"), (1, "hour"), "often", [1, "episode"], (True, "step"), None)),
    *(("gradient_steps", value) for value in (-7, 1.5)),
    *(("tau", value) for value in (5, math.inf)),
    *(("priority_exponent", value) for value in (-1, 11, None)),
    *(("importance_exponent", value) for value in (-1, 2, "x")),
    *(("replay_buffer_class", value) for value in ("x", int)),
    *(("bootstrap", value) for value in (Double, 5)),
    *(("augmentation", value) for value in (Shift, "shift")),
    *(("head", value) for value in ("quantile", nn.Linear)),
    ("n_steps", 501),
    ("learning_starts", -5),
    ("exploration_fraction", 2),
    ("exploration_initial_eps", -0.5),
    ("exploration_final_eps", 7),
    ("exploration_decay", "geometrical"),
    ("exploration_decay", "geometric"),  # needs a time constant
    ("exploration_decay_steps", 0),
    ("exploration_stop", 1.5),
    ("target_update_interval", 0),
    ("target_noise", -1.0),
    ("random_warmup", 1),
    ("optimize_memory_usage", "x"),
    ("prioritized", 1),
    ("priority_epsilon", 0.0),
    ("priority_from", "td_lose"),
    ("batch_divisor", 0),
    ("samples_per_step", 1e12),
    ("replay_buffer_kwargs", 5),
]
OF_PQN = [
    *(("n_minibatches", value) for value in (0, 2.0, None)),
    *(("q_lambda", value) for value in (-0.1, 1.1, math.nan)),
    *(("n_epochs", value) for value in (0, 1.5, None)),
    *(("epoch_reference", value) for value in (0, "x")),
    *(("exploration_final_eps", value) for value in (7, "x")),
    ("scale_epochs", 1),
    ("hold", "epochs"),
    ("n_steps", 10**12),  # more than fits in memory
]
OF_PPO = [
    *(("batch_size", value) for value in (0, 64.0, "x", None)),
    *(("gae_lambda", value) for value in (-0.1, "x")),
    *(("clip_range", value) for value in (-0.2, "x", math.nan)),
    *(("clip_range_vf", value) for value in (0, "x")),
    *(("target_kl", value) for value in (0, math.inf)),
    *(("ent_coef", value) for value in (-1, "x")),
    *(("vf_coef", value) for value in (math.nan, 10**30)),
    *(("rollout_buffer_class", value) for value in ("x", ReplayBuffer)),
    ("max_grad_norm", None),
    ("normalize_advantage", 1),
    ("sde_sample_freq", -2),
    ("rollout_buffer_kwargs", 5),
    ("n_steps", 1),  # one sample cannot be normalised
]
CASES = [(algorithm, *case) for algorithm in (DQN, PQN, PPO) for case in OF_ALL]
for agent_class, own in ((DQN, OF_REPLAY), (PQN, OF_PQN), (PPO, OF_PPO)):
    CASES += [(agent_class, *case) for case in own]


@pytest.mark.parametrize(("algorithm", "argument", "value"), CASES)
def test_a_bad_argument_is_refused_in_one_line_that_names_it(algorithm, argument, value):
    assert argument in refusal(UserError, make_agent, algorithm, **{argument: value})


@pytest.mark.parametrize(
    ("algorithm", "arguments", "named"),
    [
        (DQN, {"batch_divisor": 3}, "batch_size"),
        (DQN, {"env": lambda: cart_poles(9), "buffer_size": 8}, "buffer_size"),
        (DQN, {"env": lambda: cart_poles(2), "train_freq": (1, "episode")}, "train_freq"),
        (DQN, {"samples_per_step": 8.0, "gradient_steps": 0}, "gradient_steps"),
        (DQN, {"replay_buffer_kwargs": {"seed": -1}}, "seed"),
        (PQN, {"n_steps": 7, "n_minibatches": 4}, "n_steps"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(algorithm, arguments, named):
    assert refusal(InvalidValue, make_agent, algorithm, **arguments).startswith(f"{named}: got ")


@pytest.mark.parametrize("schedule", [lambda p: None, lambda p: math.nan, lambda p: -p, lambda p: 1 / p, lambda: 1.0])
@pytest.mark.parametrize(
    ("algorithm", "argument"), [(DQN, "learning_rate"), (DQN, "importance_exponent"), (PPO, "clip_range")]
)
def test_a_schedule_is_tried_from_beginning_to_end(algorithm, argument, schedule):
    assert argument in refusal(UserError, make_agent, algorithm, **{argument: schedule})


@pytest.mark.parametrize(
    ("algorithm", "misspelt", "right"),
    [
        (DQN, "learning_strats", "learning_starts"),
        (PQN, "n_minibatch", "n_minibatches"),
        (PPO, "bach_size", "batch_size"),
    ],
)
def test_a_misspelt_argument_comes_with_the_right_name(algorithm, misspelt, right):
    assert f"did you mean '{right}'?" in refusal(InvalidType, make_agent, algorithm, **{misspelt: 0.5})
    assert "did you mean 10000?" in refusal(InvalidType, make_agent, DQN, buffer_size=1e4)


@pytest.mark.parametrize(
    ("policy", "env", "hint"),
    [
        ("MlpPolcy", "CartPole-v1", "did you mean 'MlpPolicy'"),
        ("MlpPolicy", "CartPol-v1", "CartPole-v1"),
        ("MlpPolicy", "Breakot", "Breakout"),
        ("MlpPolicy", "NoSuchThing-v7", "NoSuchThing-v7"),
    ],
)
def test_an_unknown_policy_or_environment_comes_with_the_nearest(algorithm, policy, env, hint):
    assert hint in refusal(InvalidValue, algorithm, policy, env)


def test_nothing_is_built_before_the_arguments_are_checked(algorithm):
    class NeverMade(gym.Env):
        def __init__(self):
            raise AssertionError("the environment was made first")

    gym.register("NeverMade-v0", NeverMade)
    try:
        refusal(InvalidValue, algorithm, "MlpPolicy", "NeverMade-v0", gamma=1.5)
    finally:
        del gym.registry["NeverMade-v0"]


# ------------------------------------------------------------------------------------------------ policy and actions


@pytest.mark.parametrize("policy", [5, None, int, lambda *_: None, stable_baselines3.dqn.MlpPolicy])
def test_something_else_than_a_policy_is_refused(algorithm, policy):
    assert refusal(InvalidType, algorithm, policy, "CartPole-v1").startswith("policy: got ")


# Everything about networks in tests/networks/test_checks.py; here, that agents have it checked.
@pytest.mark.parametrize(
    ("policy_kwargs", "named"),
    [
        (5, "policy_kwargs"),
        ({3: 4}, "{3: 4}"),
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
        (DQN, {"loss": ["mse"]}, "loss"),
        (PQN, {"noisy_sigma0": 0.5}, "noisy_sigma0"),
        (PPO, {"use_sde": True}, "'use_sde' is set by the agent"),
        (PPO, {"net_arch": {"pi": [8], "vv": [8]}}, "unknown key 'vv'"),
        (PPO, {"net_arch": {"pi": [-8]}}, "net_arch['pi'][0]"),
        (PPO, {"net_arch": 8}, "net_arch"),
        (PPO, {"log_std_init": "x"}, "log_std_init"),
        (PPO, {"ortho_init": 1}, "ortho_init"),
        (PPO, {"optimizer_class": "Adam"}, "optimizer_class"),
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
    spaces.MultiBinary((2, 2)),
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
        *(("callback", value) for value in (5, [5], BaseCallback)),
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
    before = size_of(agent)
    assert refusal(UserError, agent.resize_batch, size).startswith(f"{size_name(algorithm)}: got ")
    assert size_of(agent) == before


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
