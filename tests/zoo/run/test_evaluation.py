"""When a run evaluates."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from sbbatch import DQN
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.run.evaluation import Evaluation
from sbbatch.zoo.tune.objective import TrialEvaluation
from sbbatch.zoo.tune.request import Budget


def cart_poles(n_envs):
    return DummyVecEnv([lambda: gym.make("CartPole-v1", max_episode_steps=5)] * n_envs)


def learn(evaluation, n_envs, n_steps):
    settings = {
        "learning_starts": 1000,
        "train_freq": 1,
        "buffer_size": 1000,
        "policy_kwargs": {"net_arch": [4]},
        "device": "cpu",
    }
    DQN("MlpPolicy", cart_poles(n_envs), seed=0, **settings).learn(n_steps, callback=evaluation)


@pytest.mark.parametrize(
    ("n_envs", "expected"),
    [
        (1, [10, 20, 30, 40, 50, 60, 61]),
        # Steps are multiples of 3; counted from the last evaluation, the fifth would come at 60 and not at 51.
        (3, [12, 21, 30, 42, 51, 60, 63]),
        (32, [32, 64]),
    ],
)
def test_an_evaluation_is_due_at_the_first_step_after_each_multiple_of_its_period(tmp_path, n_envs, expected):
    learn(Evaluation(cart_poles(1), tmp_path, 10, 1, StopRequest(), announce=False), n_envs, 61)
    with np.load(tmp_path / "evaluations.npz") as arrays:
        assert arrays["timesteps"].tolist() == expected


@pytest.mark.parametrize("n_envs", [1, 3, 8])
def test_a_trial_has_as_many_evaluations_as_its_budget_says(n_envs):
    seen, budget = [], Budget(80, 10, 1, 1, None, 1)
    learn(TrialEvaluation(cart_poles(1), budget, StopRequest(), lambda mean: not seen.append(mean)), n_envs, 80)
    assert len(seen) == 10
