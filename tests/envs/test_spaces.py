"""Spaces of other people's environments: what is observed and played may begin at any number and have any shape."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch as th
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv

from sbbatch import DQN, PPO, PQN, QRDQN
from sbbatch.errors import InvalidValue

SETTINGS = {
    DQN: {"learning_starts": 8, "buffer_size": 64, "batch_size": 4},
    QRDQN: {"learning_starts": 8, "buffer_size": 64, "batch_size": 4, "policy_kwargs": {"n_quantiles": 8}},
    PQN: {"n_steps": 8},
    PPO: {"n_steps": 8, "batch_size": 4},
}
NUMBERED = [spaces.Discrete(3, start=1), spaces.Discrete(2, start=-4), spaces.Discrete(3, dtype=np.int32)]
MANY = [
    spaces.MultiDiscrete([2, 3], start=[5, -1]),
    spaces.Box(-3, 9, (2,), np.int32),
    spaces.Box(0, 5, (3,), np.uint8),
    spaces.Box(-1, 1, (2,), np.float32),
    spaces.Box(-2, 3, (2,), np.float16),
    spaces.Box(-1, 1, (2,), np.float64),
    spaces.MultiDiscrete([3, 4], dtype=np.int32),
    spaces.MultiBinary(3),
]
SEEN = [
    spaces.Discrete(4, start=2),
    spaces.MultiDiscrete([3, 4], start=[1, 2]),
    spaces.MultiDiscrete([[3, 4], [2, 2]]),
    spaces.MultiDiscrete(np.full((2, 1, 3), 4), start=np.full((2, 1, 3), -1000)),
    spaces.Dict(a=spaces.Discrete(3, start=-1), b=spaces.MultiDiscrete([[2, 3], [4, 4]], start=[[7, 8], [0, 0]])),
    spaces.Dict(number=spaces.Discrete(2), mission=spaces.Text(5), small=spaces.Box(0, 255, (7, 7, 3), np.uint8)),
]


class Strict(gym.Env):
    """Shows whatever its space allows, and takes nothing else than its space allows."""

    def __init__(self, seen, played):
        self.observation_space, self.action_space, self.played = seen, played, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), repr(action)
        assert np.asarray(action).dtype == self.action_space.dtype
        self.played.append(np.array(action))
        self.left -= 1
        return self.observation_space.sample(), 1.0, False, self.left == 0, {}


def agent_in(algorithm, env, **kwargs):
    policy = "MultiInputPolicy" if isinstance(env.observation_space, spaces.Dict) else "MlpPolicy"
    return algorithm(policy, env, seed=0, device="cpu", **SETTINGS[algorithm] | kwargs)


def cases():
    for algorithm in SETTINGS:
        for seen in SEEN:
            yield algorithm, seen, NUMBERED[0]
        for played in NUMBERED + (MANY if algorithm is PPO else []):
            yield algorithm, SEEN[0], played


@pytest.mark.filterwarnings("ignore:observation mission")
@pytest.mark.parametrize(("algorithm", "seen", "played"), cases())
def test_an_agent_learns_acts_and_is_loaded_whatever_the_numbers(algorithm, seen, played, tmp_path):
    env = Strict(seen, played)
    agent = agent_in(algorithm, env).learn(40)
    for deterministic in (True, False):
        for _ in range(5):
            action, _ = agent.predict(seen.sample(), deterministic=deterministic)
            assert action.dtype == played.dtype
            assert played.contains(action[()])
        actions, _ = agent.predict(agent.get_env().reset(), deterministic=deterministic)
        assert actions.shape == (1, *played.shape)
    evaluate_policy(agent, agent.get_env(), n_eval_episodes=1, warn=False)
    if seen is not SEEN[-1]:  # of which SB3 can make no vector environment
        evaluate_policy(agent, Strict(seen, played), n_eval_episodes=1, warn=False)
    agent.save(tmp_path / "m")
    loaded = algorithm.load(tmp_path / "m", env=Strict(seen, played), device="cpu")
    observation = seen.sample()
    assert np.array_equal(
        loaded.predict(observation, deterministic=True)[0], agent.predict(observation, deterministic=True)[0]
    )
    assert loaded.learn(16, reset_num_timesteps=False).num_timesteps >= 56
    assert {tuple(action.ravel()) for action in env.played} > {tuple(env.played[0].ravel())}  # not one and the same


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_numbers_that_begin_elsewhere_are_those_that_begin_at_zero(algorithm):
    """The same weights, the same training: only the border differs."""

    class Shifted(Strict):
        def reset(self, *, seed=None, options=None):
            _, info = super().reset(seed=seed)
            self.state = 0
            return self.shown(), info

        def shown(self):
            starts = self.observation_space.start
            return starts + np.array([self.state % 3, self.state % 4], dtype=np.int64)

        def step(self, action):
            chosen = int(action - self.action_space.start)
            *_, truncated, info = super().step(action)
            self.state += chosen
            return self.shown(), float(chosen), False, truncated, info

    agents = []
    for starts, start in (([0, 0], 0), ([-7, 300], 5)):
        env = Shifted(spaces.MultiDiscrete([3, 4], start=starts), spaces.Discrete(3, start=start))
        agents.append(agent_in(algorithm, env).learn(64))
        agents[-1].played = np.array(env.played) - start
    assert np.array_equal(agents[0].played, agents[1].played)
    states = [agent.policy.state_dict() for agent in agents]
    assert all(th.equal(states[0][key], states[1][key]) for key in states[0])


def test_replay_stores_actions_from_zero():
    agent = agent_in(DQN, Strict(SEEN[0], spaces.Discrete(3, start=7))).learn(40)
    assert set(agent.replay_buffer.sample(50).actions.ravel().tolist()) <= {0, 1, 2}


def test_a_flat_space_tells_one_observation_from_a_batch():
    seen = spaces.MultiDiscrete([[3, 4], [2, 2]])
    for algorithm in (DQN, PPO):
        agent = agent_in(algorithm, DummyVecEnv([lambda: Strict(seen, NUMBERED[0])] * 3))
        assert agent.observation_space.shape == (4,)
        batch = np.stack([seen.sample() for _ in range(5)])
        assert agent.predict(batch)[0].shape == (5,)
        assert agent.predict(batch.reshape(5, 4))[0].shape == (5,)
        assert agent.predict(batch[0])[0].shape == agent.predict(batch[0].ravel())[0].shape == ()


def test_what_is_left_out_is_said_and_may_be_shown_to_predict():
    env = Strict(SEEN[-1], NUMBERED[0])
    with pytest.warns(UserWarning, match="observation mission: a text"):
        agent = agent_in(PPO, env)
    assert set(agent.observation_space.spaces) == {"number", "small"}
    assert agent.predict(env.observation_space.sample())[0] in (1, 2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        agent.set_env(agent.get_env())


def test_policies_of_the_users_own_count_from_zero_or_are_refused():
    class Own(ActorCriticPolicy):
        pass

    env = Strict(SEEN[1], NUMBERED[0])
    with pytest.raises(InvalidValue, match=r"sbbatch\.networks\.actor_critic"):
        PPO(Own, env)
    PPO(ActorCriticPolicy, env, **SETTINGS[PPO]).learn(8)
    PPO(Own, Strict(spaces.Discrete(3), NUMBERED[0]), **SETTINGS[PPO]).learn(8)


def test_a_model_of_sb3_learns_on_with_offsets(tmp_path):
    env = Strict(spaces.Box(-1, 1, (3,)), spaces.Discrete(3))
    stable_baselines3.PPO("MlpPolicy", env, n_steps=8, batch_size=4, device="cpu").save(tmp_path / "m")
    agent = PPO.load(tmp_path / "m", env=env, device="cpu")
    assert type(agent.policy).__module__ == "sbbatch.networks.actor_critic"
    agent.learn(8)
