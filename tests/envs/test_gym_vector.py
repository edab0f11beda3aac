"""Gymnasium's own vector environments, in all their modes."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import ClipReward, RecordEpisodeStatistics
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from sbbatch import DQN, PPO, PQN
from sbbatch.envs.gym_vector import GymVecEnv
from sbbatch.errors import InvalidValue


class Counting(gym.Env):
    """Episodes of 3, 4, 5, ... steps that show their number and the step; every second one is cut off."""

    observation_space = spaces.Box(0, 1000, (2,), np.float32)
    action_space = spaces.Discrete(3, start=2)

    def __init__(self, first=0):
        self.episode = first

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        return self.shown(), {"episode_number": self.episode}

    def shown(self):
        return np.array([self.episode, self.steps], np.float32)

    def step(self, action):
        assert self.action_space.contains(action)
        self.steps += 1
        ended, cut = self.steps == 2 + self.episode, self.episode % 2 == 0
        return self.shown(), float(action), ended and not cut, ended and cut, {"steps": self.steps}


def vector(mode, kind=gym.vector.SyncVectorEnv, n=3):
    return kind([lambda i=i: Counting(first=i) for i in range(n)], autoreset_mode=mode)


def played(env, n_steps=25):
    env.seed(0)
    found, rng = [env.reset()], np.random.default_rng(0)
    for _ in range(n_steps):
        obs, rewards, dones, infos = env.step(rng.integers(2, 5, env.num_envs))
        infos = [
            (info["TimeLimit.truncated"], info["steps"], info.get("terminal_observation", np.zeros(0)).tolist())
            for info in infos
        ]
        found += [obs, rewards, dones, infos]
    return found


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("kind", [gym.vector.SyncVectorEnv, gym.vector.AsyncVectorEnv])
def test_every_mode_plays_as_sb3s_own_vector_environment(mode, kind):
    expected = played(DummyVecEnv([lambda i=i: Counting(first=i) for i in range(3)]))
    env = GymVecEnv(vector(mode, kind))
    for ours, theirs in zip(played(env), expected, strict=True):
        assert ours == theirs if isinstance(theirs, list) else np.array_equal(ours, theirs)
    assert env.reset_infos[0]["episode_number"] > 1
    env.close()


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("algorithm", [DQN, PQN, PPO])
def test_agents_learn_in_them(algorithm, mode):
    own = {"learning_starts": 20} if algorithm is DQN else {"n_steps": 8}
    env = RecordEpisodeStatistics(ClipReward(vector(mode, n=2), 0, 3))
    agent = algorithm("MlpPolicy", env, seed=0, device="cpu", **own).learn(64)
    assert [episode["l"] for episode in agent.ep_info_buffer][:3] == [3, 4, 4]
    assert evaluate_policy(agent, agent.get_env(), n_eval_episodes=2)[0] > 0
    agent.set_env(vector(AutoresetMode.SAME_STEP, n=2))
    agent.learn(16, reset_num_timesteps=False)


def test_what_make_vec_makes_by_id_keeps_its_id():
    env = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    assert PQN("MlpPolicy", env, device="cpu").env_id == "CartPole-v1"


def test_one_that_cannot_be_reset_at_once_is_refused_with_the_way_to_go():
    with pytest.raises(InvalidValue, match="vectorization_mode='sync'"):
        PPO("MlpPolicy", gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="vector_entry_point"))


@pytest.mark.parametrize(
    ("returned", "named"),
    [
        ((np.zeros(2, np.float32), [1.0, 2.0], False, False, {}), "the reward"),
        ((np.zeros(3, np.float32), 1.0, False, False, {}), "the observation"),
        ((np.zeros(2, np.float32), 1.0, False, {}), "step"),
    ],
)
def test_what_their_environments_return_is_judged(returned, named):
    class Wrong(Counting):
        def step(self, action):
            return returned if self.episode == 2 else super().step(action)

    env = gym.vector.SyncVectorEnv([lambda: Wrong(0), lambda: Wrong(1)])
    with pytest.raises(InvalidValue, match=f"step 2: {named} of environment 1"):
        PPO("MlpPolicy", env, n_steps=8, device="cpu").learn(16)


def test_a_reward_of_one_element_is_taken():
    class Listed(Counting):
        def step(self, action):
            observation, reward, *rest = super().step(action)
            return observation, np.array([reward]), *rest

    assert PPO("MlpPolicy", gym.vector.SyncVectorEnv([Listed] * 2), n_steps=8, device="cpu").learn(16)


def test_attributes_are_those_of_the_environments():
    env = GymVecEnv(vector(AutoresetMode.NEXT_STEP))
    env.set_attr("episode", 7)
    assert env.get_attr("episode", indices=[0, 2]) == [7, 7]
    assert [list(shown) for shown in env.env_method("reset")[0]] == [[8.0, 0.0], ["episode_number"]]
    with pytest.raises(NotImplementedError, match="indices"):
        env.set_attr("episode", 7, indices=0)
