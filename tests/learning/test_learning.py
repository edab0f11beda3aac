"""Agents learn: small real tasks solved within a stated budget, on every seed. Minutes each: `pytest -m slow`."""

import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import sync_envs_normalization

from sbbatch import ALGORITHMS, PPO
from sbbatch.settings.resolution import require_algorithm, resolve, run_value
from sbbatch.zoo.commands.quickstart import ENV_ID
from sbbatch.zoo.commands.quickstart import main as quickstart
from sbbatch.zoo.logs.folders import find_run
from sbbatch.zoo.play.saved import agent_of_run
from sbbatch.zoo.play.scores import play_at_random, play_episodes
from sbbatch.zoo.run.build import make_env, run_env
from sbbatch.zoo.run.train import make_model

pytestmark = pytest.mark.slow


class StopWhenSolved(BaseCallback):
    """Plays a whole greedy game in each environment now and then; stops when their mean reaches the threshold."""

    def __init__(self, env, threshold, every):
        super().__init__()
        self.env, self.threshold, self.every = env, threshold, every
        self.solved_at, self.looked_at = None, 0

    def _on_step(self):
        if self.num_timesteps - self.looked_at >= self.every:
            self.looked_at = self.num_timesteps
            n_games = self.env.num_envs
            mean_return, _ = evaluate_policy(self.model, self.env, n_eval_episodes=n_games, deterministic=True)
            if mean_return >= self.threshold:
                self.solved_at = self.num_timesteps
        return self.solved_at is None


def train_until_solved(algorithm, env_id, seed, threshold, every):
    """With the settings and within the steps of its YAML file; returns after how many agent steps."""
    settings = resolve(algorithm, env_id)
    n_timesteps, n_envs = run_value(settings, "n_timesteps"), run_value(settings, "n_envs", 1)
    env = make_env(env_id, n_envs=n_envs, seed=seed * n_envs)
    model = make_model(require_algorithm(algorithm), env, settings, seed, "cpu", 0)
    games = make_env(env_id, n_envs=20, seed=1_000 + seed, training=False)
    stop = StopWhenSolved(games, threshold, every)
    model.learn(n_timesteps, callback=stop)
    print(f"{algorithm} {env_id} seed {seed}: solved after {stop.solved_at} of {n_timesteps} agent steps")
    return stop.solved_at


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_cartpole_is_solved_within_the_steps_of_its_settings(algorithm, seed):
    assert train_until_solved(algorithm, "CartPole-v1", seed, threshold=475, every=1_000)


@pytest.mark.parametrize("seed", range(5))
def test_pqn_solves_acrobot(seed):
    assert train_until_solved("pqn", "Acrobot-v1", seed, threshold=-100, every=10_000)


def score_of_ppo(cls, env_id, n_timesteps, seed):
    """Trains with the settings of our YAML file, plays 20 greedy games."""
    settings = resolve("ppo", env_id, {"n_timesteps": n_timesteps})
    env = run_env(env_id, PPO, settings, 1_000 * seed, True, run_value(settings, "n_envs"))
    model = make_model(cls, env, settings, seed, "cpu", 0)
    model.learn(n_timesteps)
    games = run_env(env_id, PPO, settings, 10_000 + seed, False, 20)
    if run_value(settings, "normalize") is not None:
        sync_envs_normalization(env, games)
    return np.mean([episode.score for episode in play_episodes(model, games, 20)])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("env_id", "n_timesteps", "level"), [("Pendulum-v1", 100_000, -250), ("InvertedPendulum-v5", 100_000, 900)]
)
def test_ppo_reaches_the_level_of_sb3s(env_id, n_timesteps, level, seed):
    ours, theirs = (score_of_ppo(cls, env_id, n_timesteps, seed) for cls in (PPO, stable_baselines3.PPO))
    print(f"PPO {env_id} seed {seed}: {ours:.1f} after {n_timesteps} agent steps, SB3's {theirs:.1f}")
    assert ours == theirs  # the same weights, by the same numbers in the same order
    assert ours >= level


@pytest.mark.parametrize("seed", range(3))
def test_quickstart_agent_beats_the_random_policy_clearly(seed, tmp_path):
    assert quickstart(["--seed", str(seed), "-f", str(tmp_path)]) == 0
    run = find_run(tmp_path, "qrdqn", ENV_ID)
    trained = [game.score for game in agent_of_run(run, "qrdqn", ENV_ID, run.best_model).play(10, seed=7)]
    games = play_at_random(ENV_ID, 10, 7, protocol="atari100k", n_envs=10)
    at_random = [game.score for game in games]
    assert np.mean(trained) > np.mean(at_random) + 1_000
