"""BTR's torso, noise and fractions learn to see: the right action depends on where a square is. Minutes: `-m slow`."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from sbbatch import BTR

pytestmark = pytest.mark.slow
N_STEPS, N_ENVS = 50, 8


class FindTheSquare(gym.Env):
    """A white square of 8 pixels in a grey clutter that stays; the right action is the quarter that it is in."""

    def __init__(self):
        self.observation_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
        self.action_space = gym.spaces.Discrete(4)
        self.clutter = np.random.default_rng(0).integers(0, 150, (1, 84, 84)).astype(np.uint8).repeat(4, 0)

    def _look(self):
        picture, (x, y) = self.clutter.copy(), self.np_random.integers(0, 76, 2)
        picture[:, y : y + 8, x : x + 8] = 255
        self.right = min(int(x + 4) // 21, 3)
        return picture

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n_steps = 0
        return self._look(), {}

    def step(self, action):
        reward = float(action == self.right)
        self.n_steps += 1
        return self._look(), reward, False, self.n_steps == N_STEPS, {}


@pytest.mark.parametrize("seed", range(2))
def test_btr_finds_the_square_after_500_gradient_steps(seed):
    env = DummyVecEnv([FindTheSquare] * N_ENVS)
    env.seed(seed)
    model = BTR(
        "CnnPolicy",
        env,
        learning_rate=2.5e-4,
        batch_size=16,
        gradient_steps=2,
        buffer_size=20_000,
        learning_starts=2_000,
        target_update_interval=1_000,
        exploration_decay_steps=4_000,
        seed=seed,
        policy_kwargs={"features_extractor_kwargs": {"width": 1}, "optimizer_kwargs": {"eps": 2e-5}},
    )
    model.learn(4_000)
    games = DummyVecEnv([FindTheSquare] * N_ENVS)
    games.seed(100 + seed)
    observations, right = games.reset(), []
    for _ in range(N_STEPS):
        observations, rewards, _, _ = games.step(model.predict(observations, deterministic=True)[0])
        right.append(rewards.mean())
    print(f"BTR seed {seed}: the right action in {np.mean(right):.0%} of the pictures after {model._n_updates} updates")
    assert np.mean(right) > 0.8  # at random 0.25
