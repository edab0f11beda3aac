"""A constructor argument that cannot be is refused in one line that names it, before anything is built."""

import math

import gymnasium as gym
import pytest
import torch as th
from contract_tools import cart_poles, make_agent, refusal
from stable_baselines3.common.buffers import ReplayBuffer
from torch import nn

from sbbatch import DQN, PPO, PQN
from sbbatch.components.bootstrap import Double
from sbbatch.errors import InvalidType, InvalidValue, UserError

OF_ALL = [
    *(("gamma", value) for value in (1.5, -0.1, math.nan, True, "0.99")),
    *(("learning_rate", value) for value in (1e30, 0.0, "1e-4", lambda progress: 0.0)),
    *(("max_grad_norm", value) for value in (0, math.nan, "x")),
    *(("seed", value) for value in (-1, "lucky", 0.5)),
    *(("stats_window_size", value) for value in (0, 2.5, None, 10**30)),
    *(("verbose", value) for value in (-1, "x")),
    *(("device", value) for value in ("gpu", "", "meta", *([] if th.cuda.is_available() else ["cuda:0"]))),
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
    ("use_sde", True),  # of discrete actions
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
