"""Whole games played, and what their returns say."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.analysis.metrics import iqm
from sbbatch.analysis.scores import Scaled
from sbbatch.envs.ale import MAX_ENVS
from sbbatch.envs.atari import atari_game
from sbbatch.files import atomic_write
from sbbatch.settings.games import games
from sbbatch.zoo.run.build import make_env, require_discrete

ENDLESS = 1_000_000_000  # games, for who counts steps


@dataclass(frozen=True)
class PlayedGame:
    """
    One whole game.

    :param score: raw return
    :param steps: agent steps
    """

    score: float
    steps: int


class _EnoughError(Exception):
    """Leaves SB3's evaluation loop after a number of steps."""


class RandomPlayer:
    """
    Draws every action uniformly.

    :param action_space: the actions of one environment, numbered or within bounds
    :param n_envs: actions per call
    :param seed: of its own generator
    """

    def __init__(self, action_space: spaces.Space, n_envs: int, seed: int | None) -> None:
        self.action_space = action_space
        self.n_envs = n_envs
        self.generator = np.random.default_rng(seed)

    def predict(self, *_: Any, **__: Any) -> tuple[np.ndarray, None]:
        """As SB3's ``predict``, whatever is observed."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return int(space.start) + self.generator.integers(int(space.n), size=self.n_envs), None
        assert isinstance(space, spaces.Box)
        return self.generator.uniform(space.low, space.high, (self.n_envs, *space.shape)).astype(space.dtype), None


def games_side_by_side(env_id: str, n_episodes: int, n_envs: int | None = None) -> int:
    """
    How many environments share an evaluation.

    :param env_id: environment
    :param n_episodes: games to play
    :param n_envs: what the user asked for (``None``: one for each game on Atari, so that every slot counts its first
        game, however short the others are; else 1)
    """
    default = MAX_ENVS if atari_game(env_id) is not None else 1
    return min(n_envs or default, n_episodes)


def play_games(
    player: Any,
    env: VecEnv,
    n_episodes: int = ENDLESS,
    *,
    n_steps: int | None = None,
    deterministic: bool = True,
    tell: Callable[[int], None] | None = None,
) -> list[PlayedGame]:
    """
    Whole games, with their raw returns.

    :param player: a model, or anything with SB3's ``predict``
    :param env: evaluation environments
    :param n_episodes: games to play, shared out evenly between the environments
    :param n_steps: steps of every environment after which to stop; a game that has not ended then does not count
    :param deterministic: greedy actions
    :param tell: called at every step of all environments with the number of games that have ended
    """
    played: dict[str, list[Any]] = {"returns": [], "lengths": []}
    taken = 0

    def watch(locals_: dict[str, Any], _: dict[str, Any]) -> None:
        nonlocal taken
        played["returns"], played["lengths"] = locals_["episode_rewards"], locals_["episode_lengths"]
        if locals_["i"] == 0:
            taken += 1
            if tell is not None:
                tell(len(played["returns"]))
        if n_steps is not None and taken > n_steps:
            raise _EnoughError

    try:
        found = evaluate_policy(
            player, env, n_episodes, deterministic=deterministic, callback=watch, return_episode_rewards=True
        )
        played["returns"], played["lengths"] = found  # type: ignore[assignment]
    except _EnoughError:
        pass
    pairs = zip(played["returns"], played["lengths"], strict=True)
    return [PlayedGame(float(np.asarray(score).item()), int(steps)) for score, steps in pairs]


def evaluate_returns(player: Any, env: VecEnv, n_episodes: int) -> list[float]:
    """
    Raw returns of whole games.

    :param player: a model, or anything with SB3's ``predict``; it plays greedily
    :param env: an evaluation environment
    :param n_episodes: games to play, shared out evenly between the environments
    """
    return [game.score for game in play_games(player, env, n_episodes)]


def evaluate_random(
    env_id: str,
    n_episodes: int = 10,
    seed: int | None = None,
    *,
    protocol: str | None = None,
    n_envs: int = 1,
    max_steps: int | None = None,
) -> list[float]:
    """
    Raw returns of a player that draws every action uniformly.

    :param env_id: environment
    :param n_episodes: whole games to play
    :param seed: of the environments and of the player
    :param protocol: Atari protocol, e.g. sticky actions or not (``None``: ``dopamine``)
    :param n_envs: games played side by side
    :param max_steps: agent steps after which a game is cut off (``None``: the environment's own limit)
    """
    env = make_env(env_id, n_envs=n_envs, protocol=protocol, seed=seed, training=False, max_steps=max_steps)
    try:
        return evaluate_returns(random_player(env_id, env, seed), env, n_episodes)
    finally:
        env.close()


def random_player(env_id: str, env: VecEnv, seed: int | None) -> RandomPlayer:
    """
    A player of the environments that draws every action uniformly.

    :param env_id: environment
    :param env: its environments
    :param seed: of the player
    :raises InvalidValue: actions that are neither numbered nor within bounds
    """
    space = env.action_space
    if not (isinstance(space, spaces.Box) and space.is_bounded()):
        require_discrete(env_id, space)
    return RandomPlayer(space, env.num_envs, seed)


def describe_returns(returns: Sequence[float]) -> str:
    """
    Mean and standard deviation for people.

    :param returns: one raw return per game
    """
    games = f"{len(returns)} game{'s' if len(returns) != 1 else ''}"
    return f"return {np.mean(returns):.1f} ± {np.std(returns):.1f} ({games})"


def statistics(returns: Sequence[float]) -> dict[str, float]:
    """
    What is said about the returns of games: mean, median, interquartile mean, standard deviation over games, standard
    error of the mean, least and greatest.

    :param returns: one raw return per game, at least one
    """
    scores = np.asarray(returns, dtype=float)
    several = len(scores) > 1
    deviation = float(scores.std(ddof=1)) if several else 0.0
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
    """
    The published scores of an Atari game that make its human-normalised score.

    :param env_id: environment
    :return: ``None`` if it is no Atari game, or one that nobody published a human score of
    """
    name = atari_game(env_id)
    game = games().get(name) if name is not None else None
    return None if game is None or game.human is None else game


def table_of(games: Sequence[PlayedGame], seed: int) -> str:
    """
    :param games: what was played
    :param seed: of the first environment
    :return: CSV, one line for each game
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["game", "return", "steps", "seed"])
    writer.writerows([number, game.score, game.steps, seed] for number, game in enumerate(games, 1))
    return text.getvalue()


def write_monitor(folder: Path, env_id: str, games: Sequence[PlayedGame]) -> Path:
    """
    Write games in the format of SB3's ``Monitor``, which the zoo's plots read.

    :param folder: where to; it is made if it is missing
    :param env_id: environment
    :param games: what was played
    :return: the file
    """
    path = folder / "0.monitor.csv"
    text = io.StringIO()
    text.write(f"#{json.dumps({'t_start': time.time(), 'env_id': env_id})}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["r", "l", "t"])
    writer.writerows([game.score, game.steps, 0.0] for game in games)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
    return path
