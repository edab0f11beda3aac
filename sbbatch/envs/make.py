"""From the name of an environment to the environment."""

from __future__ import annotations

import difflib
import sys
from typing import Any

import gymnasium as gym
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack

from sbbatch.envs.ale import MAX_ENVS, make_ale_vec_env
from sbbatch.envs.atari import AtariProtocol, atari_game, looks_like_atari, require_atari_game
from sbbatch.envs.minatar import register_minatar
from sbbatch.errors import InvalidValue

register_minatar()

# What the names of other packages' environments begin with, and the modules that register them.
PACKAGES = {
    "minigrid": ("MiniGrid-", "BabyAI-"),
    "miniworld": ("MiniWorld-",),
    "highway_env": (
        "highway-", "exit-", "intersection-", "lane-keeping-", "merge-", "parking-", "racetrack-", "roundabout-",
        "two-way-", "u-turn-",
    ),
    "gymnasium_robotics": ("Fetch", "Hand", "Adroit", "AntMaze", "PointMaze", "FrankaKitchen"),
    "panda_gym": ("Panda",),
    "flappy_bird_gymnasium": ("FlappyBird-",),
    "mo_gymnasium": ("mo-",),
    "metaworld": ("Meta-World/",),
    "PyFlyt.gym_envs": ("PyFlyt/",),
    "safety_gymnasium": ("Safety",),
    "vizdoom.gymnasium_wrapper": ("Vizdoom",),
}  # fmt: skip


def canonical_id(env_id: str) -> str:
    """
    An environment's id in the one spelling that folders, files and models use.

    :param env_id: a registered id (``"module:Name-v0"`` is imported, as Gymnasium does), or an Atari game by any name
    :return: e.g. ``"ALE/Breakout-v5"`` or ``"CartPole-v1"``
    :raises InvalidValue: no such environment; the message names the package that has it, or the nearest name
    """
    if looks_like_atari(env_id):
        require_atari_game(env_id)
    game = atari_game(env_id)
    if game is not None:
        return f"ALE/{game}-v5"
    try:
        return gym.spec(env_id).id
    except (gym.error.Error, ModuleNotFoundError):
        for module, beginnings in PACKAGES.items():
            if env_id.startswith(beginnings) and module not in sys.modules:
                package = module.partition(".")[0].replace("_", "-")
                raise InvalidValue(
                    f"unknown environment '{env_id}'; {module} registers those of such names: install it (pip install "
                    f"{package}) and give --gym-packages {module}, or in Python import {module}"
                ) from None
        near = difflib.get_close_matches(env_id, list(gym.registry), n=1, cutoff=0.6)
        if not near:
            require_atari_game(env_id)  # its message knows the games
        # An older id of a game stands for its only spelling here.
        nearest = f"ALE/{atari_game(near[0])}-v5" if atari_game(near[0]) else near[0]
        raise InvalidValue(
            f"unknown environment '{env_id}'; did you mean '{nearest}'? Those of other packages need --gym-packages "
            "(in Python an import)"
        ) from None


def is_mujoco(env_id: str) -> bool:
    """Whether an environment is one of Gymnasium's MuJoCo tasks, of any version."""
    spec = gym.registry.get(env_id)
    return spec is not None and str(spec.entry_point).startswith("gymnasium.envs.mujoco")


def make_env(
    env_id: str, protocol: str | AtariProtocol, seed: int | None = None, atari_envs: int = 1
) -> gym.Env | VecEnv:
    """
    An environment by its name, as an agent's constructor takes it.

    :param env_id: see :func:`canonical_id`
    :param protocol: how Atari games are preprocessed
    :param seed: seed of an Atari game; others are seeded by the algorithm
    :param atari_envs: copies of an Atari game; of others there is one
    :raises InvalidValue: no such environment, or a package it needs is missing
    """
    game = atari_game(canonical_id(env_id))
    if game is not None:
        return make_ale_vec_env(game, atari_envs, protocol=protocol, seed=seed)
    return make_gym_env(env_id)


def make_gym_env(env_id: str, **kwargs: Any) -> gym.Env:
    """
    ``gymnasium.make``, which does not tell whose package is missing.

    :param env_id: a registered id
    :param kwargs: passed on
    :raises InvalidValue: a package it needs is missing, or it shall be drawn and cannot be
    """
    try:
        return gym.make(env_id, **kwargs)
    except (gym.error.DependencyNotInstalled, ImportError) as error:
        raise InvalidValue(f"{env_id} needs a package that is not installed: {' '.join(str(error).split())}") from None
    except TypeError as error:
        if "'render_mode'" not in str(error):
            raise
        raise InvalidValue(f"{env_id} cannot be drawn: it knows no render_mode") from None


def parallel_episodes(env_id: str, n_episodes: int, n_envs: int | None = None) -> int:
    """
    How many environments share an evaluation.

    :param n_envs: what the user asked for (``None``: one for each game on Atari, so that every slot counts its first
        game, however short the others are; else 1)
    """
    default = MAX_ENVS if atari_game(env_id) is not None else 1
    return min(n_envs or default, n_episodes)


def id_of(env: VecEnv) -> str | None:
    """The canonical id of an environment that has been made, or ``None`` if it does not know it."""
    game = getattr(env.unwrapped, "game", None)
    if game is not None:
        return f"ALE/{game}-v5"
    spec = env.get_attr("spec")[0] if env.has_attr("spec") else None
    return getattr(spec, "id", None)


def protocol_of(env: VecEnv) -> str | None:
    """The name of the protocol of an Atari game that has been made, or ``None`` for anything else."""
    return getattr(getattr(env.unwrapped, "protocol", None), "name", None)


def frame_stack_of(env: VecEnv) -> int:
    """
    How many frames an observation stacks: known for :class:`~sbbatch.envs.ale.AleVecEnv` and SB3's ``VecFrameStack`` of
    images, otherwise 1 (observations are then stored whole, which is always right).
    """
    space = env.observation_space
    if not (is_image_space(space) and is_image_space_channels_first(space)):  # type: ignore[arg-type]
        return 1
    current: VecEnv = env
    while True:
        if isinstance(current, VecFrameStack):
            return current.stacked_obs.n_stack
        if not isinstance(current, VecEnvWrapper):
            return int(getattr(current, "frame_stack", 1))
        current = current.venv
