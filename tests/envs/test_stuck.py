"""Episodes that are stuck end, and nothing else does."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from sbbatch import make_ale_vec_env
from sbbatch.envs.stuck import StuckDetector, StuckLimit


class Corridor(gym.Env):
    """Action 1 walks on, action 0 stands still; a reward after every 30 cells. It never ends by itself."""

    def __init__(self, keys=()):
        one = spaces.Box(0, 10_000, (1,), np.float32)
        self.keys = keys
        self.observation_space = spaces.Dict(dict.fromkeys(keys, one)) if keys else one
        self.action_space = spaces.Discrete(2)

    def _look(self):
        look = np.array([self.cell], np.float32)
        return dict.fromkeys(self.keys, look) if self.keys else look

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell = 0
        return self._look(), {}

    def step(self, action):
        self.cell += int(action)
        return self._look(), float(action == 1 and self.cell % 30 == 0), False, False, {}


class Player:
    def __init__(self, action):
        self.action = action

    def predict(self, observations, state=None, episode_start=None, deterministic=True):
        return np.full(len(episode_start), self.action), None


@pytest.mark.parametrize("cycle", [1, 2, 7, 40])
def test_a_cycle_of_any_length_is_noticed_after_one_round_and_the_patience(cycle):
    stuck = StuckDetector(50)
    looks = [stuck(np.array([step % cycle]), 0.0) for step in range(cycle + 60)]
    assert looks.index(True) == cycle + 49


@pytest.mark.parametrize(
    ("looks", "rewards"),
    [
        (range(1000), [0.0] * 1000),  # always something new
        ([0] * 1000, [float(step % 40 == 0) for step in range(1000)]),  # the same, but it is rewarded
        ([0] * 1000, [-1.0] * 1000),  # a cost of living
    ],
)
def test_what_earns_or_sees_something_new_is_not_stuck(looks, rewards):
    stuck = StuckDetector(50)
    assert not any(stuck(np.array([look]), reward) for look, reward in zip(looks, rewards, strict=True))


def test_a_patience_of_minus_one_has_no_end():
    stuck = StuckDetector(-1)
    assert not any(stuck(np.array([0]), 0.0) for _ in range(1000))


@pytest.mark.parametrize("keys", [(), ("a", "b")])
def test_stuck_episodes_are_whole_episodes_of_an_evaluation(keys):
    told = []
    env = StuckLimit(make_vec_env(lambda: Corridor(keys), 2, vec_env_cls=DummyVecEnv), 50, told.append)
    returns, lengths = evaluate_policy(Player(0), env, n_eval_episodes=6, return_episode_rewards=True)
    assert returns == [0.0] * 6
    assert lengths == [51] * 6
    assert len(told) == 1
    env.reset()
    for _ in range(200):  # one goes on, the other one is begun anew
        observations, _, dones, infos = env.step(np.array([1, 0]))
        if dones[1]:
            assert infos[1]["TimeLimit.truncated"]
        assert not dones[0]
    first = observations["a"] if keys else observations
    assert first[:, 0].tolist() == [200.0, 0.0]


def test_a_game_of_which_nobody_serves_the_ball_ends_while_the_others_go_on():
    env = StuckLimit(make_ale_vec_env("Breakout", 3, seed=0, training=False), 60)
    env.reset()
    ended = {0: [], 1: [], 2: []}
    for step in range(200):
        actions = np.array([0, 1 if step % 2 else 3, 0])  # Breakout waits for FIRE
        _, _, dones, infos = env.step(actions)
        for i in np.flatnonzero(dones):
            ended[i].append(infos[i]["episode"]["l"])
            assert infos[i]["terminal_observation"].shape == (4, 84, 84)
    assert ended[0][0] <= 70
    assert len(ended[0]) == len(ended[2]) >= 2
    assert all(length > 70 for length in ended[1])
