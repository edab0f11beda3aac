"""What is wrong with an argument is told in one line, before anything is built."""

import inspect
import math

import gymnasium as gym
import pytest
import torch as th
from contract_tools import cart_poles, make_agent, refusal
from gymnasium import spaces
from stable_baselines3.common.envs import FakeImageEnv
from torch import nn

from sbbatch.errors import InvalidType, InvalidValue, UserError
from sbbatch.networks.heads import HEADS

BAD_ARGUMENTS = [
    ("batch_size", 0, InvalidValue),
    ("batch_size", -4, InvalidValue),
    ("batch_size", 32.0, InvalidType),
    ("batch_size", "sixteen", InvalidType),
    ("batch_size", True, InvalidType),
    ("batch_size", None, InvalidType),
    ("batch_size", 501, InvalidValue),
    ("batch_size", 10**10, InvalidValue),
    ("n_steps", 0, InvalidValue),
    ("n_steps", -3, InvalidValue),
    ("n_steps", 501, InvalidValue),
    ("buffer_size", 0, InvalidValue),
    ("buffer_size", -1, InvalidValue),
    ("buffer_size", 1e4, InvalidType),
    ("buffer_size", 10**12, InvalidValue),
    ("learning_starts", -5, InvalidValue),
    ("gamma", 1.5, InvalidValue),
    ("gamma", -0.1, InvalidValue),
    ("gamma", math.nan, InvalidValue),
    ("gamma", True, InvalidType),
    ("gamma", "0.99", InvalidType),
    ("tau", 5, InvalidValue),
    ("tau", -0.1, InvalidValue),
    ("tau", math.inf, InvalidValue),
    ("exploration_final_eps", 7, InvalidValue),
    ("exploration_initial_eps", -0.5, InvalidValue),
    ("exploration_fraction", 2, InvalidValue),
    ("exploration_decay_steps", 0, InvalidValue),
    ("learning_rate", 1e30, InvalidValue),
    ("learning_rate", 0.0, InvalidValue),
    ("learning_rate", "1e-4", InvalidType),
    ("train_freq", 0, InvalidValue),
    ("train_freq", (0, "step"), InvalidValue),
    ("train_freq", (1, "hour"), InvalidValue),
    ("train_freq", "often", InvalidType),
    ("gradient_steps", -7, InvalidValue),
    ("gradient_steps", 1.5, InvalidType),
    ("max_grad_norm", 0, InvalidValue),
    ("max_grad_norm", -10, InvalidValue),
    ("max_grad_norm", math.nan, InvalidValue),
    ("target_update_interval", 0, InvalidValue),
    ("seed", -1, InvalidValue),
    ("seed", "lucky", InvalidType),
    ("learning_strats", 100, InvalidType),
]


@pytest.mark.parametrize(("argument", "value", "error"), BAD_ARGUMENTS)
def test_a_bad_argument_is_refused_in_one_line_that_names_it(replay_algorithm, argument, value, error):
    assert argument in refusal(error, make_agent, replay_algorithm, **{argument: value})
    assert issubclass(error, UserError)


def test_a_float_that_should_be_an_int_comes_with_the_int(replay_algorithm):
    assert "did you mean 32?" in refusal(InvalidType, make_agent, replay_algorithm, batch_size=32.0)
    assert "did you mean 10000?" in refusal(InvalidType, make_agent, replay_algorithm, buffer_size=1e4)


def test_a_misspelt_argument_comes_with_the_right_name(replay_algorithm):
    assert "did you mean 'learning_starts'" in refusal(InvalidType, make_agent, replay_algorithm, learning_strats=100)


@pytest.mark.parametrize(("misspelt", "right"), [("gama", "gamma"), ("learning_rat", "learning_rate"), ("sed", "seed")])
def test_a_misspelt_argument_that_all_have_comes_with_the_right_name(algorithm, misspelt, right):
    told = refusal(InvalidType, make_agent, algorithm, **{misspelt: 0.5})
    assert told == f"{algorithm.__name__}: unknown argument '{misspelt}'; did you mean '{right}'?"


def test_a_misspelt_policy_comes_with_the_right_name(algorithm):
    assert "did you mean 'MlpPolicy'" in refusal(InvalidValue, algorithm, "MlpPolcy", "CartPole-v1")


def test_a_continuous_action_space_is_refused(value_algorithm):
    told = refusal(InvalidValue, value_algorithm, "MlpPolicy", "Pendulum-v1")
    assert "needs a Discrete action space, but the environment has Box(1,) of float32" in told


def test_actions_that_do_not_start_at_zero_are_refused(algorithm):
    env = FakeImageEnv(screen_height=36, screen_width=36)
    env.action_space = spaces.Discrete(3, start=1)
    assert "start at 1" in refusal(InvalidValue, algorithm, "CnnPolicy", env)


@pytest.mark.parametrize(
    ("env", "hint"), [("CartPol-v1", "CartPole-v1"), ("Breakot", "Breakout"), ("NoSuchThing-v7", "NoSuchThing-v7")]
)
def test_an_unknown_environment_is_named(algorithm, env, hint):
    told = refusal(InvalidValue, algorithm, "MlpPolicy", env)
    assert env in told
    assert hint in told


@pytest.mark.parametrize("policy_kwargs", [{"n_quantils": 50}, {"net_ach": [64]}, {"lost": "huber"}])
def test_a_key_that_neither_policy_nor_head_knows_is_named(algorithm, policy_kwargs):
    (key,) = policy_kwargs
    assert f"policy_kwargs: unknown key '{key}'" in refusal(
        InvalidType, make_agent, algorithm, policy_kwargs=policy_kwargs
    )


def test_a_key_of_another_head_is_named(replay_algorithm):
    own = inspect.signature(replay_algorithm).parameters["head"].default
    arguments = {head: set(inspect.signature(head).parameters) for head in HEADS.values()}
    foreign = sorted(set.union(*arguments.values()) - arguments[own])
    assert foreign
    for key in foreign:
        told = refusal(InvalidType, make_agent, replay_algorithm, policy_kwargs={key: 1})
        assert f"policy_kwargs: unknown key '{key}'" in told


def test_nothing_is_built_before_the_arguments_are_checked(algorithm):
    class NeverMade(gym.Env):
        def __init__(self):
            raise AssertionError("the environment was made first")

    gym.register("NeverMade-v0", NeverMade)
    try:
        refusal(InvalidValue, algorithm, "MlpPolicy", "NeverMade-v0", gamma=1.5)
    finally:
        del gym.registry["NeverMade-v0"]


def test_a_module_that_is_no_head_is_refused(replay_algorithm):
    assert refusal(InvalidValue, make_agent, replay_algorithm, head=nn.Linear, policy_kwargs={}).startswith(
        "head: Linear cannot be made"
    )


@pytest.mark.skipif(th.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_not_replaced_by_the_processor(algorithm):
    assert "device: got 'cuda:0'" in refusal(InvalidValue, make_agent, algorithm, device="cuda:0")


@pytest.mark.parametrize("device", ["meta", th.device("meta"), "xpu", "mps"])
def test_a_device_that_cannot_compute_here_is_refused_before_anything_is_built(algorithm, device):
    if str(device) != "meta" and getattr(th, str(device)).is_available():
        pytest.skip("there is one")
    told = refusal(InvalidValue, make_agent, algorithm, device=device)
    assert told == f"device: got {str(device)!r}, but PyTorch finds no such device here; expected auto or cpu"


def test_a_buffer_has_room_for_each_environment(replay_algorithm):
    told = refusal(InvalidValue, make_agent, replay_algorithm, env=cart_poles(9), buffer_size=8, n_steps=1)
    assert told == "buffer_size: got 8, expected an int >= 9, one transition of each environment"


@pytest.mark.parametrize("seed", [-1, "x", 0.5])
def test_the_seed_of_the_replay_buffer_is_checked(replay_algorithm, seed):
    kwargs = {"replay_buffer_kwargs": {"seed": seed}}
    assert refusal((InvalidType, InvalidValue), make_agent, replay_algorithm, **kwargs).startswith("seed: got ")
