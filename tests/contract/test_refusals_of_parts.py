"""What an agent passes on, to its policy, its replay buffer, its schedules and SB3, is checked when it is made."""

import math

import pytest
import stable_baselines3
import torch as th
from contract_tools import PLAIN_REPLAY, cart_poles, image_env, make_agent, refusal
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from sbbatch.errors import InvalidType, InvalidValue
from sbbatch.networks.value_policy import ValuePolicy
from sbbatch.replay import FrameReplayBuffer, UniformSampler

# -------------------------------------------------------------------------------------------------------------- policy


@pytest.mark.parametrize("policy", [5, None, 3.0, int, lambda *_: None, stable_baselines3.dqn.MlpPolicy])
def test_something_else_than_a_policy_is_refused(algorithm, policy):
    told = refusal(InvalidType, algorithm, policy, "CartPole-v1")
    assert told.startswith("policy: got ")
    assert "expected 'MlpPolicy', 'CnnPolicy', " in told
    assert "'MultiInputPolicy' or a subclass of" in told


def test_a_policy_may_be_a_class(replay_algorithm):
    class Custom(ValuePolicy):
        pass

    assert isinstance(
        replay_algorithm(Custom, "CartPole-v1", device="cpu", buffer_size=500, batch_size=8).policy, Custom
    )


@pytest.mark.parametrize(
    ("policy_kwargs", "message"),
    [
        (5, "policy_kwargs: got int 5, expected a dictionary"),
        ("x", "policy_kwargs: got str 'x'"),
        ([("net_arch", [8])], "policy_kwargs: got list"),
        ({3: 4}, "policy_kwargs: got int 3 as a key"),
        ({"lr_schedule": 3}, "policy_kwargs: 'lr_schedule' is set by the agent"),
        ({"net_arch": [10**15]}, "policy_kwargs: the network does not fit in the memory"),
        ({"net_arch": [-5]}, "policy_kwargs: net_arch[0]: got -5"),
        ({"activation_fn": "ReLU"}, "policy_kwargs: activation_fn: got str 'ReLU'"),
        ({"optimizer_kwargs": 5}, "policy_kwargs: optimizer_kwargs: got int 5"),
        ({"optimizer_kwargs": {"ep": 1}}, "policy_kwargs: optimizer_kwargs: unknown key 'ep'; did you mean 'eps'?"),
        ({"features_extractor_kwargs": 5}, "policy_kwargs: features_extractor_kwargs: got int 5"),
        ({"features_extractor_kwargs": {"paddin": 1}}, "features_extractor_kwargs: unknown key 'paddin'"),
    ],
)
def test_policy_kwargs_that_cannot_be_are_refused(algorithm, policy_kwargs, message):
    told = refusal((InvalidType, InvalidValue), make_agent, algorithm, policy_kwargs=policy_kwargs)
    assert message in told


@pytest.mark.parametrize(
    ("policy_kwargs", "message"),
    [
        ({"head_class": nn.ReLU}, "policy_kwargs: 'head_class' is set by the agent"),
        ({"noisy_sigma0": th.ones(2)}, "noisy_sigma0: got Tensor tensor([1., 1.])"),
        ({"initializer": "orthogonal"}, "initializer: got str 'orthogonal'"),
    ],
)
def test_kwargs_that_a_value_policy_cannot_have_are_refused(value_algorithm, policy_kwargs, message):
    told = refusal((InvalidType, InvalidValue), make_agent, value_algorithm, policy_kwargs=policy_kwargs)
    assert message in told


def test_the_replay_buffer_is_not_made_for_a_policy_that_cannot_be(replay_algorithm):
    class NeverMade(FrameReplayBuffer):
        def __init__(self, *args, **kwargs):
            raise AssertionError("the replay buffer was made first")

    refusal(InvalidValue, make_agent, replay_algorithm, policy_kwargs={"net_arch": [0]}, replay_buffer_class=NeverMade)


# ------------------------------------------------------------------------------------------------------- replay buffer


@pytest.mark.parametrize(
    "key", ["buffer_size", "observation_space", "action_space", "n_envs", "device", "optimize_memory_usage"]
)
@pytest.mark.parametrize("buffer_class", [None, ReplayBuffer])
def test_what_the_agent_tells_its_buffer_cannot_be_told_otherwise(replay_algorithm, key, buffer_class):
    kwargs = {"replay_buffer_class": buffer_class, "replay_buffer_kwargs": {key: 3}, **PLAIN_REPLAY}
    told = refusal(InvalidType, make_agent, replay_algorithm, **kwargs)
    assert told.startswith(f"replay_buffer_kwargs: '{key}' is set by the agent; give it to the agent itself")


@pytest.mark.parametrize("key", ["n_steps", "gamma", "sampler_kwargs"])
def test_what_only_our_buffer_gets_from_the_agent_is_not_given_twice(replay_algorithm, key):
    told = refusal(InvalidType, make_agent, replay_algorithm, replay_buffer_kwargs={key: 3})
    assert told.startswith(f"replay_buffer_kwargs: '{key}' is set by the agent")


@pytest.mark.parametrize("kind", ["vector", "image", "dict"])
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"frame_compression": "lz5"}, "frame_compression: got 'lz5'; did you mean 'lz4'?"),
        ({"frame_compression": True}, "frame_compression: got bool True"),
        ({"handle_timeout_termination": "x"}, "handle_timeout_termination: got str 'x'"),
        ({"sampler_class": 3}, "sampler_class: got int 3"),
        ({"frame_stak": 3}, "unknown key 'frame_stak'; did you mean 'frame_stack'?"),
    ],
)
def test_arguments_of_the_buffer_are_checked_whatever_is_observed(replay_algorithm, kind, kwargs, message):
    told = refusal((InvalidType, InvalidValue), make_agent, replay_algorithm, kind, replay_buffer_kwargs=kwargs)
    assert message in told


def test_arguments_of_a_sampler_are_checked(replay_algorithm):
    kwargs = {"sampler_class": UniformSampler, "sampler_kwargs": {"n_indices": 3}}
    told = refusal(InvalidType, make_agent, replay_algorithm, replay_buffer_kwargs=kwargs)
    assert told.startswith("sampler_kwargs: 'n_indices' is set by the agent")


@pytest.mark.parametrize("value", [None, "lz4"])
def test_frames_that_are_none_may_be_compressed_or_not(replay_algorithm, value):
    assert make_agent(replay_algorithm, replay_buffer_kwargs={"frame_compression": value}).replay_buffer is not None


@pytest.mark.parametrize("value", ["x", int, 5])
def test_something_else_than_a_buffer_is_refused(replay_algorithm, value):
    assert refusal(InvalidType, make_agent, replay_algorithm, replay_buffer_class=value).startswith(
        "replay_buffer_class: got"
    )


def test_what_sb3s_buffer_refuses_is_told_in_one_line(replay_algorithm):
    kwargs = {"replay_buffer_class": ReplayBuffer, "optimize_memory_usage": True, **PLAIN_REPLAY}
    told = refusal(InvalidValue, make_agent, replay_algorithm, **kwargs)
    assert told.startswith("replay_buffer_kwargs: ReplayBuffer cannot be made (")


@pytest.mark.parametrize("buffer_class", [None, ReplayBuffer])
@pytest.mark.parametrize("value", [5, "x", [1]])
def test_arguments_of_the_buffer_are_a_dictionary(replay_algorithm, buffer_class, value):
    kwargs = {"replay_buffer_class": buffer_class, "replay_buffer_kwargs": value, **PLAIN_REPLAY}
    assert "expected a dictionary" in refusal(InvalidType, make_agent, replay_algorithm, **kwargs)


# ----------------------------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("argument", ["learning_rate", "importance_exponent"])
@pytest.mark.parametrize("prioritized", [False, True])
@pytest.mark.parametrize(
    "schedule",
    [lambda p: None, lambda p: "x", lambda p: math.nan, lambda p: -1.0, lambda p: 7 * p, lambda p: 1 / p, lambda: 1.0],
)
def test_a_schedule_is_tried_before_the_run(replay_algorithm, argument, prioritized, schedule):
    told = refusal(
        (InvalidType, InvalidValue), make_agent, replay_algorithm, prioritized=prioritized, **{argument: schedule}
    )
    assert told.startswith(f"{argument}: at the progress remaining ")


@pytest.mark.parametrize("schedule", [lambda p: 1e-3 * p, lambda p: 1e-3 * (1 - p)])
def test_a_learning_rate_may_fall_to_zero_or_rise_from_it(algorithm, schedule):
    assert make_agent(algorithm, learning_rate=schedule).learn(60).num_timesteps == 60


def test_a_learning_rate_that_is_zero_throughout_is_refused(algorithm):
    assert "got 0 from beginning to end" in refusal(InvalidValue, make_agent, algorithm, learning_rate=lambda p: 0.0)


def test_an_importance_exponent_may_be_a_tensor(replay_algorithm):
    agent = make_agent(replay_algorithm, importance_exponent=lambda p: th.tensor(0.5 * p), prioritized=True)
    assert agent.learn(60).num_timesteps == 60


# -------------------------------------------------------------------------------------------------------- other values


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("stats_window_size", value) for value in (0, -3, 2.5, "x", None)),
        *(("priority_exponent", value) for value in (-1, "x", 11, math.nan, None)),
        *(("importance_exponent", value) for value in (-1, 2, "x", None)),
        *(("verbose", value) for value in (-1, "x", None)),
        ("optimize_memory_usage", "x"),
        ("tensorboard_log", 5),
        *(("device", value) for value in ("gpu", "")),
        *(("train_freq", value) for value in ([1, "episode"], (1,), (1, "step", 3), (True, "step"), None, "4")),
    ],
)
def test_values_that_sb3_takes_or_finds_wrong_later_are_refused(replay_algorithm, argument, value):
    told = refusal((InvalidType, InvalidValue), make_agent, replay_algorithm, prioritized=False, **{argument: value})
    assert told.startswith(f"{argument}: got ")


def test_episodes_cannot_be_counted_in_several_environments(replay_algorithm):
    told = refusal(InvalidValue, make_agent, replay_algorithm, env=cart_poles(2), train_freq=(1, "episode"))
    assert told.startswith("train_freq: got episodes with 2 environments")


@pytest.mark.parametrize("steps", [0, -5, math.nan, math.inf, 2.5, "x", None, True])
def test_a_run_has_a_length(algorithm, steps):
    assert refusal((InvalidType, InvalidValue), make_agent(algorithm).learn, steps).startswith("total_timesteps: got ")


def test_a_run_may_be_as_long_as_a_whole_float(algorithm):
    assert make_agent(algorithm).learn(2e1).num_timesteps == 20


@pytest.mark.parametrize("log_interval", [0, -1, 2.5, "x"])
def test_the_log_interval_is_a_number_of_episodes(algorithm, log_interval):
    told = refusal((InvalidType, InvalidValue), make_agent(algorithm).learn, 20, log_interval=log_interval)
    assert told.startswith("log_interval: got ")


@pytest.mark.parametrize("callback", [5, "x", [5], [lambda *_: True], BaseCallback, (None,)])
def test_something_else_than_a_callback_is_refused(algorithm, callback):
    assert refusal(InvalidType, make_agent(algorithm).learn, 20, callback=callback).startswith("callback: got ")


def test_callbacks_come_in_several_forms(algorithm):
    class Silent(BaseCallback):
        def _on_step(self):
            return True

    agent = make_agent(algorithm)
    for callback in (None, lambda *_: True, Silent(), [Silent(), Silent()], []):
        assert agent.learn(4, callback=callback, log_interval=None).num_timesteps == 4


def test_images_wanted_by_the_wrong_policy_are_refused_before_the_memory_is_made(replay_algorithm):
    told = refusal(InvalidValue, replay_algorithm, "MultiInputPolicy", image_env(), buffer_size=10**12)
    assert told.startswith("MultiInputPolicy: got observations Box(1, 36, 36) of uint8")
