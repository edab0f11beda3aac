"""Numbers that are none stop a run where they appear."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from contract_tools import DictEnv, make_agent, refusal
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from sbbatch import PPO
from sbbatch.agents.base.replay import ReplayAgent
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
    agent = make_agent(algorithm, env=envs)
    told = refusal(NumericalError, agent.learn, 600)
    # the 30th vector step of three environments: step 90
    assert told.startswith(f"step 90: the {what} of environment 1 ")
    if isinstance(agent, ReplayAgent):
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
        next(iter(agent.policy.parameters())).fill_(math.nan)
    before = agent._n_updates
    told = refusal(NumericalError, agent.train, *((1, 8) if isinstance(agent, ReplayAgent) else ()))
    assert "the loss became nan" in told or "parameters of the policy became NaN" in told
    assert agent._n_updates == before


def test_weights_that_are_no_numbers_stop_the_collection_of_a_rollout(rollout_algorithm):
    agent = make_agent(rollout_algorithm).learn(60)
    with th.no_grad():
        next(iter(agent.policy.parameters())).fill_(math.nan)
    told = refusal(NumericalError, agent.learn, 60)
    assert "the return of environment 0 contains nan" in told or "parameters of the policy became NaN" in told


def test_a_first_observation_that_is_no_number_stops_a_rollout(rollout_algorithm):
    class Spoilt(SpoiltEnv):
        def reset(self, *, seed=None, options=None):
            return np.full(2, np.inf, dtype=np.float32), {}

    told = refusal(NumericalError, make_agent(rollout_algorithm, env=Spoilt).learn, 60)
    assert told.startswith("step 0: the observation of environment 0 contains inf")


def test_a_learning_rate_that_spoils_the_weights_stops_the_run(rollout_algorithm):
    agent = make_agent(rollout_algorithm)
    agent.policy.optimizer.param_groups[0]["lr"] = 1e30
    agent._update_learning_rate = lambda _: None
    told = refusal(NumericalError, agent.learn, 600)
    assert told.startswith("step ")


class SpoiltTorso(BaseFeaturesExtractor):
    """Gives numbers until it is spoilt."""

    spoilt = False

    def __init__(self, observation_space):
        super().__init__(observation_space, 4)

    def forward(self, observations):
        return observations * (math.nan if self.spoilt else 1.0)


def test_a_distribution_that_is_none_stops_the_run_by_name():
    agent = make_agent(PPO, policy_kwargs={"features_extractor_class": SpoiltTorso}).learn(8)
    agent.policy.features_extractor.spoilt = True
    told = refusal(NumericalError, agent.learn, 8, reset_num_timesteps=False)
    assert told.startswith("step 8: the distribution of actions became NaN or infinite, although the parameters of the")
