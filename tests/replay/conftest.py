"""Fixtures of the replay tests."""

import gymnasium as gym
import numpy as np
import pytest
from reference_replay import VectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize


class NeverStepped(gym.Env):
    """Only its spaces count."""

    observation_space = VectorEnv(0, None).space
    action_space = gym.spaces.Discrete(4)


@pytest.fixture
def vec_normalize():
    """Normalises by the mean [0, 50, 0] and the variances [1, 400, 4]; rewards by the variance 4."""
    env = VecNormalize(DummyVecEnv([NeverStepped]), epsilon=0.0)
    env.obs_rms.mean, env.obs_rms.var = np.array([0.0, 50.0, 0.0]), np.array([1.0, 400.0, 4.0])
    env.ret_rms.var = np.array(4.0)
    return env
