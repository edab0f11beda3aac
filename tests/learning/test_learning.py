"""Agents learn: small real tasks solved within a stated budget, on every seed. Minutes each: `pytest -m slow`."""

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

from sbbatch import ALGORITHMS
from sbbatch.zoo.build import make_env, make_model
from sbbatch.zoo.config import require_algorithm, resolve
from sbbatch.zoo.enjoy import enjoy
from sbbatch.zoo.evaluate import evaluate_random
from sbbatch.zoo.quickstart import ENV_ID
from sbbatch.zoo.quickstart import main as quickstart

pytestmark = pytest.mark.slow


class StopWhenSolved(BaseCallback):
    """Plays a whole greedy game in each environment now and then; stops when their mean reaches the threshold."""

    def __init__(self, env, threshold, every):
        super().__init__()
        self.env, self.threshold, self.every = env, threshold, every
        self.solved_at = None

    def _on_step(self):
        if self.num_timesteps % self.every == 0:
            n_games = self.env.num_envs
            mean_return, _ = evaluate_policy(self.model, self.env, n_eval_episodes=n_games, deterministic=True)
            if mean_return >= self.threshold:
                self.solved_at = self.num_timesteps
        return self.solved_at is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_cartpole_is_solved_within_50_000_steps(algorithm, seed):
    settings = resolve(algorithm, "CartPole-v1")
    model = make_model(require_algorithm(algorithm), make_env("CartPole-v1", seed=seed), settings, seed, "cpu", 0)
    games = make_env("CartPole-v1", n_envs=20, seed=1_000 + seed, training=False)
    stop = StopWhenSolved(games, 475, every=1_000)
    model.learn(50_000, callback=stop)
    assert stop.solved_at is not None
    print(f"{algorithm} seed {seed}: solved after {stop.solved_at} agent steps")


@pytest.mark.parametrize("seed", range(3))
def test_quickstart_agent_beats_the_random_policy_clearly(seed, tmp_path):
    assert quickstart(["--seed", str(seed), "-f", str(tmp_path)]) == 0
    trained = enjoy("qrdqn", ENV_ID, tmp_path, load_best=True, n_episodes=10, seed=7)
    at_random = evaluate_random(ENV_ID, 10, 7, protocol="atari100k", n_envs=10)
    assert np.mean(trained) > np.mean(at_random) + 1_000
