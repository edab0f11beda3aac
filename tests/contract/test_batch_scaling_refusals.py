"""Sizes an agent cannot have, and callbacks that cannot be, are refused in one sentence."""

import pytest
import stable_baselines3
from contract_tools import make_agent, refusal
from stable_baselines3.common.callbacks import CallbackList

from sbbatch import ABS, BatchSizeSchedule, GradientNoiseScale
from sbbatch.agents.base import rollout
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.errors import InvalidType, InvalidValue


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((64, 16), {}, "max_size: got 16, expected at least min_size = 64"),
        ((0, 16), {}, "min_size: got 0, expected an int >= 1"),
        ((16, -4), {}, "max_size: got -4, expected an int >= 1"),
        ((16, 32), {"low": 0.5, "high": 0.1}, "high: got 0.1"),
        ((16, 32), {"kind": "logg"}, "kind: got 'logg'; did you mean 'log'?"),
        ((16, 32), {"check_every": 0}, "check_every: got 0"),
    ],
)
def test_bounds_that_no_agent_can_have_are_refused_at_once(args, kwargs, message):
    assert refusal(InvalidValue, ABS, *args, **kwargs).startswith(message)


def refused(agent, callback):
    """What is said when training starts, alike for a callback of the agent and of the run."""
    told = refusal(InvalidValue, agent.learn, 60, callback=callback)
    agent.batch_size_callback = callback
    assert refusal(InvalidValue, agent.learn, 60) == told
    agent.batch_size_callback = None
    agent.learn(60)  # nothing is left over
    return told


def test_a_bound_above_the_replay_buffer_is_refused(replay_algorithm):
    told = refused(make_agent(replay_algorithm), ABS(16, 512))
    assert told == "ABS: max_size: got 512, expected at most buffer_size = 500"


def test_a_bound_that_the_divisor_does_not_divide_is_refused(replay_algorithm):
    told = refused(make_agent(replay_algorithm, batch_divisor=4, batch_size=8), ABS(18, 64))
    assert told.startswith("ABS: min_size: got 18, expected a multiple of ")


def test_a_bound_that_does_not_split_into_the_minibatches_is_refused(rollout_algorithm):
    told = refused(make_agent(rollout_algorithm), ABS(7, 16))
    assert told == "ABS: min_size: got 7, expected a multiple of 2"


def test_a_bound_above_the_memory_is_refused(rollout_algorithm, monkeypatch):
    agent = make_agent(rollout_algorithm)
    # Four numbers of four bytes are 16, which PPO needs twice; the present rollout makes room.
    monkeypatch.setattr(rollout, "free_memory", lambda: 16 * rollout_algorithm.rollout_copies * (100 - agent.n_steps))
    told = refused(agent, ABS(16, 128))
    assert told.startswith("ABS: max_size: got 128, which needs 0.0 GB of memory in 1 environments while ")
    assert told.endswith("expected at most 100")


@pytest.mark.parametrize("size", [0, -4, 8.0, "8", None, True])
def test_a_size_that_is_none_is_refused_and_the_old_one_kept(algorithm, size):
    agent = make_agent(algorithm)
    name = agent.batch_scaling.size_name
    before = getattr(agent, name)
    assert refusal((InvalidType, InvalidValue), agent.resize_batch, size).startswith(f"{name}: got ")
    agent.learn(60)
    assert getattr(agent, name) == before


def test_lengths_of_rollouts_that_cannot_be_are_refused(rollout_algorithm, monkeypatch):
    agent = make_agent(rollout_algorithm)
    told = refusal(InvalidValue, agent.set_n_steps, 7)
    assert told.startswith("n_steps: got 7, whose 7 samples in 1 environments do not split into 2 equal minibatches; ")
    assert told.endswith("the nearest that do: 8")
    assert "GB of memory" in refusal(InvalidValue, agent.set_n_steps, 10**12)
    assert "GB of memory" in refusal(InvalidValue, make_agent, rollout_algorithm, n_steps=10**12)


def test_two_callbacks_that_change_the_size_are_refused(algorithm):
    agent = make_agent(algorithm)
    schedule = BatchSizeSchedule.linear(16, 32)
    for two in ([ABS(16, 32), schedule], [ABS(16, 32), CallbackList([schedule])]):
        told = refusal(InvalidValue, agent.learn, 60, callback=two)
        assert told == "callback: got ABS and BatchSizeSchedule, expected one callback that changes the batch size"
    agent = make_agent(algorithm, batch_size_callback=ABS(16, 32))
    told = refusal(InvalidValue, agent.learn, 60, callback=schedule)
    assert told.startswith("callback: got BatchSizeSchedule, but the agent has a batch_size_callback (ABS); give one")


@pytest.mark.parametrize("callback", [5, "ABS", ABS, lambda *_: True])
def test_something_else_than_such_a_callback_is_refused(algorithm, callback):
    told = refusal(InvalidType, make_agent, algorithm, batch_size_callback=callback)
    assert told.startswith("batch_size_callback: got ")


@pytest.mark.parametrize("agent_class", [stable_baselines3.DQN, stable_baselines3.PPO])
def test_agents_of_others_cannot_be_scaled(agent_class):
    agent = agent_class("MlpPolicy", "CartPole-v1", device="cpu")
    told = refusal(InvalidType, agent.learn, 10, callback=ABS())
    assert told.startswith(f"ABS: {agent_class.__name__} cannot change its batch size; use it with an agent of sbbatch")


def test_the_noise_scale_is_for_agents_with_fixed_targets(algorithm):
    kwargs = {"buffer_size": 600} if issubclass(algorithm, ReplayAgent) else {}
    callback = GradientNoiseScale(16, 32, check_every=1, n_parts=4)
    agent = make_agent(algorithm, batch_size_callback=callback, **kwargs)
    if algorithm.__name__ == "PPO":
        assert refusal(InvalidValue, agent.learn, 60).startswith("GradientNoiseScale: PPO has no fixed targets")
    else:
        agent.learn(60)
        assert len(callback.history) > 2
