"""Whole episodes played, and what their returns say."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.analysis.metrics import iqm
from sbbatch.analysis.scores import Scaled, human_normalized
from sbbatch.envs.atari import atari_game
from sbbatch.files import write_csv
from sbbatch.settings.games import games
from sbbatch.zoo.console.progress import episodes_bar
from sbbatch.zoo.run.build import make_env


@dataclass(frozen=True)
class Episode:
    """One whole episode."""

    score: float  # raw return
    steps: int  # agent steps
    stuck: bool = False  # whether it was cut off, see StuckDetector


class RandomPolicy:
    """Draws every action as its space does, uniformly within bounds, for ``n_envs`` environments."""

    def __init__(self, action_space: spaces.Space, n_envs: int, seed: int | None) -> None:
        self.action_space, self.n_envs = deepcopy(action_space), n_envs
        self.action_space.seed(seed)

    def predict(self, *_: Any, **__: Any) -> tuple[np.ndarray, None]:
        """As SB3's ``predict``, whatever is observed."""
        return np.stack([self.action_space.sample() for _ in range(self.n_envs)]), None


def play_episodes(
    player: Any,
    env: VecEnv,
    n_episodes: int | None = None,
    *,
    n_steps: int | None = None,
    deterministic: bool = True,
    progress: bool | None = False,
) -> list[Episode]:
    """
    Whole episodes, with their raw returns.

    :param player: a model, or anything with SB3's ``predict``
    :param env: evaluation environments, whose infos tell of whole episodes, as those of SB3's ``Monitor`` do
    :param n_episodes: episodes to play, shared out evenly between the environments (``None``: until ``n_steps``)
    :param n_steps: steps of every environment after which to stop; an episode that has not ended then does not count
    :param deterministic: greedy actions
    :param progress: whether to show a bar; ``None``: on a terminal, and lines elsewhere
    """
    left = [math.inf if n_episodes is None else (n_episodes + i) // env.num_envs for i in range(env.num_envs)]
    played: list[Episode] = []
    taken, states, starts, observations = 0, None, np.ones(env.num_envs, dtype=bool), env.reset()
    with episodes_bar(n_episodes, progress) as tell:
        while any(left) and (n_steps is None or taken < n_steps):
            actions, states = player.predict(
                observations, state=states, episode_start=starts, deterministic=deterministic
            )
            observations, _, starts, infos = env.step(actions)
            taken += 1
            for i, info in enumerate(infos):
                if left[i] and starts[i] and "episode" in info:
                    left[i] -= 1
                    told = info["episode"]
                    played.append(Episode(float(told["r"]), int(told["l"]), info.get("stuck", False)))
            tell(len(played), taken)
    return played


def play_at_random(
    env_id: str,
    n_episodes: int = 10,
    seed: int | None = None,
    *,
    protocol: str | None = None,
    n_envs: int = 1,
    max_steps: int | None = None,
    progress: bool | None = False,
) -> list[Episode]:
    """
    Whole episodes of a player that draws every action uniformly, however long they are; see :meth:`SavedAgent.play`.

    :param seed: of the environments and of the player
    :param protocol: Atari protocol, e.g. sticky actions or not (``None``: ``dopamine``)
    """
    env = make_env(env_id, n_envs=n_envs, protocol=protocol, seed=seed, training=False, max_steps=max_steps)
    try:
        return play_episodes(RandomPolicy(env.action_space, n_envs, seed), env, n_episodes, progress=progress)
    finally:
        env.close()


def statistics(returns: Sequence[float]) -> dict[str, float]:
    """What is said about raw returns of episodes, at least one, which has no deviation: NaN."""
    scores = np.asarray(returns, dtype=float)
    deviation = float(scores.std(ddof=1)) if len(scores) > 1 else math.nan
    return {
        "mean": float(scores.mean()),
        "median": float(np.median(scores)),
        "interquartile mean": iqm(scores),
        "standard deviation": deviation,
        "standard error": deviation / len(scores) ** 0.5,
        "least": float(scores.min()),
        "greatest": float(scores.max()),
    }


def scale_of(env_id: str) -> Scaled | None:
    """The published scores of an Atari game; ``None``: it is none, or nobody published a human score."""
    game = games().get(atari_game(env_id) or "")
    return None if game is None or game.human is None else game


def report(name: str, env_id: str, episodes: Sequence[Episode], scale: Scaled | None = None) -> list[str]:
    """Lines about what ``name`` has played, with a human-normalised score if there is a scale, and what was cut off."""
    found = statistics([episode.score for episode in episodes])
    found["steps of an episode"] = sum(episode.steps for episode in episodes) / len(episodes)
    lines = [f"{name} on {env_id}, {len(episodes)} whole episodes", ""]
    lines += [f"  {what:<19} {'-' if math.isnan(value) else f'{value:,.2f}':>12}" for what, value in found.items()]
    if scale is not None:
        normalized = human_normalized(scale, found["mean"])
        lines.append(f"  human-normalised    {normalized:12,.3f}  (random {scale.random:g}, human {scale.human:g})")
    stuck = sum(episode.stuck for episode in episodes)
    return [*lines, f"  {stuck} of {len(episodes)} episodes were cut: stuck"] if stuck else lines


def write_table(path: Path, episodes: Sequence[Episode], seed: int) -> None:
    """Write a CSV with one line for each episode; ``seed`` is that of the first environment."""
    rows = [(number, episode.score, episode.steps, seed) for number, episode in enumerate(episodes, 1)]
    write_csv(path, ("game", "return", "steps", "seed"), rows)


def write_monitor(folder: Path, env_id: str, episodes: Sequence[Episode]) -> Path:
    """Write episodes in the format of SB3's ``Monitor``, which the zoo's plots read, and return the file."""
    path = folder / "0.monitor.csv"
    comment = f"#{json.dumps({'t_start': time.time(), 'env_id': env_id})}\n"
    write_csv(path, ("r", "l", "t"), [(episode.score, episode.steps, 0.0) for episode in episodes], comment)
    return path
