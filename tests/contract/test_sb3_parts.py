"""SB3's parts work with every agent that learns from replay, and what is drop-in has its peer's arguments."""

import inspect
import math

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch as th
from contract_tools import PLAIN_REPLAY, differ, make_agent, refusal, weights
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.logger import Logger

import sbbatch
from sbbatch.errors import UserError

PEERS = {"dqn": stable_baselines3.DQN, "qrdqn": sb3_contrib.QRDQN}


class RecordedLogger(Logger):
    """Keeps the last value of every key."""

    def __init__(self):
        super().__init__(None, [])
        self.seen = {}

    def record(self, key, value, exclude=None):
        self.seen[key] = value


def test_the_replay_buffer_of_sb3_works(replay_algorithm, tmp_path):
    agent = make_agent(replay_algorithm, replay_buffer_class=ReplayBuffer, **PLAIN_REPLAY)
    before = weights(agent)
    agent.learn(120)
    assert type(agent.replay_buffer) is ReplayBuffer
    assert differ(before, weights(agent))
    agent.save_replay_buffer(tmp_path / "b")
    agent.load_replay_buffer(tmp_path / "b")
    assert agent.replay_buffer.size() == 120


@pytest.mark.parametrize("told", ["buffer", "agent"])
def test_the_n_step_buffer_of_sb3_works_when_it_is_configured(replay_algorithm, told):
    discount = {"gamma": 0.9}
    kwargs = {"n_steps": 3, **(discount if told == "buffer" else {})}
    theirs = {"replay_buffer_class": NStepReplayBuffer, "replay_buffer_kwargs": kwargs}
    agent = make_agent(replay_algorithm, **theirs, **PLAIN_REPLAY, **(discount if told == "agent" else {})).learn(120)
    discounts = agent._sample_replay(200).discounts.unique()
    assert th.isclose(discounts, th.tensor(0.729)).any()  # three rewards
    assert (discounts < 0.91).all()  # nothing else is used: neither the agent's default nor the buffer's


@pytest.mark.parametrize("kwargs", [{"n_steps": 3}, {"prioritized": True}])
def test_what_only_our_buffer_can_do_is_not_silently_dropped(replay_algorithm, kwargs):
    kwargs = {**PLAIN_REPLAY, **kwargs}
    assert "ReplayBuffer" in refusal(
        UserError, make_agent, replay_algorithm, replay_buffer_class=ReplayBuffer, **kwargs
    )


def test_one_agent_learns_the_same_from_sb3s_transitions_as_from_ours(replay_algorithm):
    # Drawn by different generators, the batches differ, but what is stored is the same.
    ours, theirs = (
        make_agent(replay_algorithm, replay_buffer_class=c, **PLAIN_REPLAY).learn(40) for c in (None, ReplayBuffer)
    )
    np.testing.assert_array_equal(ours.replay_buffer.observations[:, 0], theirs.replay_buffer.observations[:40, 0])
    np.testing.assert_array_equal(ours.replay_buffer.actions[:, 0], theirs.replay_buffer.actions[:40, 0, 0])
    np.testing.assert_array_equal(ours.replay_buffer.dones, theirs.replay_buffer.dones[:40])


def test_arguments_have_the_names_and_the_order_of_sb3(replay_name, replay_algorithm):
    peer = PEERS.get(replay_name, stable_baselines3.DQN)
    ours, theirs = (list(inspect.signature(cls.__init__).parameters.values()) for cls in (replay_algorithm, peer))
    shared = ours[: len(theirs)]
    assert [parameter.name for parameter in shared] == [parameter.name for parameter in theirs]
    assert theirs[-1].name == "_init_setup_model"
    if replay_name in PEERS:
        assert [parameter.default for parameter in shared] == [parameter.default for parameter in theirs]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in ours[len(theirs) :])
    assert all(parameter.default is not inspect.Parameter.empty for parameter in ours[len(theirs) :])


@pytest.mark.parametrize("name", PEERS)
def test_the_defaults_of_the_peer_reach_the_agent(name):
    algorithm = sbbatch.ALGORITHMS[name]
    ours, theirs = (cls("MlpPolicy", "CartPole-v1", device="cpu", buffer_size=1000) for cls in (algorithm, PEERS[name]))
    for attribute in inspect.signature(PEERS[name].__init__).parameters:
        if hasattr(theirs, attribute) and isinstance(getattr(theirs, attribute), (int, float, str, tuple, type(None))):
            if attribute in ("replay_buffer_class", "device"):
                continue
            assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    for key in ("lr", "eps", "betas", "weight_decay"):
        assert ours.policy.optimizer.param_groups[0][key] == theirs.policy.optimizer.param_groups[0][key]


def test_the_logger_sees_the_keys_that_plots_need(replay_algorithm):
    agent, logger = make_agent(replay_algorithm, prioritized=True), RecordedLogger()
    agent.set_logger(logger)
    agent.learn(200)
    expected = {
        "train/loss",
        "train/batch_size",
        "train/samples",
        "train/gradient_steps",
        "train/n_updates",
        "train/learning_rate",
        "train/mean_importance_weight",
        "rollout/exploration_rate",
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "time/fps",
        "time/total_timesteps",
    }
    assert expected <= set(logger.seen)
    assert (logger.seen["train/batch_size"], logger.seen["train/gradient_steps"]) == (8, 40)
    assert logger.seen["train/samples"] == 320
    assert math.isfinite(logger.seen["train/loss"])
    assert 0 < logger.seen["train/mean_importance_weight"] <= 1
