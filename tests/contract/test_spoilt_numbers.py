"""Numbers that are none stop a run where they appear."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from contract_tools import DictEnv, make_agent, refusal
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from sbbatch.errors import NumericalError


class SpoiltEnv(gym.Env):
    """A reward or an observation that is no number at a given step."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, what=None, at=0, value=math.nan):
        self.what, self.at, self.value, self.count = what, at, value, 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, dtype=np.float32), {}

    def step(self, action):
        self.count += 1
        spoilt = self.count == self.at
        reward = self.value if spoilt and self.what == "reward" else 1.0
        observation = np.full(2, 0.01 * self.count, dtype=np.float32)
        if spoilt and self.what in ("observation", "final observation"):
            observation[1] = self.value
        return observation, reward, spoilt and self.what == "final observation", False, {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("what", ["reward", "observation", "final observation"])
def test_a_run_stops_at_a_number_that_is_none_and_says_where(algorithm, what, value):
    envs = DummyVecEnv([SpoiltEnv, lambda: SpoiltEnv(what, 30, value), SpoiltEnv])
    agent = make_agent(algorithm, env=envs, target_update_interval=100)
    told = refusal(NumericalError, agent.learn, 600)
    # the 30th vector step of three environments: step 90
    assert told.startswith(f"step 90: the {what} of environment 1 ")
    assert agent.replay_buffer.size() == 29


def test_a_spoilt_entry_of_a_dictionary_is_named(algorithm):
    class Spoilt(DictEnv):
        def step(self, action):
            observation, *rest = super().step(action)
            observation["vector"][2] = np.nan
            return (observation, *rest)

    told = refusal(NumericalError, make_agent(algorithm, "dict", env=Spoilt).learn, 100)
    assert told.startswith("step 1: the observation vector of environment 0 ")


def test_a_message_about_a_long_observation_stays_short(algorithm):
    class Wide(SpoiltEnv):
        observation_space = spaces.Box(-1, 1, (500,), np.float32)

        def reset(self, *, seed=None, options=None):
            return np.zeros(500, dtype=np.float32), {}

        def step(self, action):
            return np.full(500, np.nan, dtype=np.float32), 0.0, False, False, {}

    assert len(refusal(NumericalError, make_agent(algorithm, env=Wide).learn, 100)) < 200


def test_a_loss_that_is_no_number_stops_the_run(algorithm):
    agent = make_agent(algorithm).learn(60)
    with th.no_grad():
        next(iter(agent.q_net.parameters())).fill_(math.nan)
    before = agent._n_updates
    assert "the loss became nan" in refusal(NumericalError, agent.train, 1, 8)
    assert agent._n_updates == before
