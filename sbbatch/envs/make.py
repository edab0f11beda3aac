"""From the name of an environment to the environment."""

from __future__ import annotations

import gymnasium as gym
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack

from sbbatch.envs.atari import AtariProtocol, atari_game, looks_like_atari, require_atari_game
from sbbatch.errors import InvalidValue, did_you_mean


def make_env(env_id: str, protocol: str | AtariProtocol, seed: int | None = None) -> gym.Env | VecEnv:
    """
    One environment by its name, as an agent's constructor takes it.

    :param env_id: an Atari game under any of its names, or an id registered with Gymnasium
    :param protocol: how Atari games are preprocessed
    :param seed: seed of an Atari game; others are seeded by the algorithm
    :raises InvalidValue: no such environment; the message offers the nearest name
    """
    if atari_game(env_id) is not None or looks_like_atari(env_id):
        from sbbatch.envs.ale import make_ale_vec_env  # ale-py is only imported when a game is played

        return make_ale_vec_env(require_atari_game(env_id), protocol=protocol, seed=seed)
    require_registered(env_id)
    return gym.make(env_id)


def require_registered(env_id: str) -> None:
    """
    :param env_id: e.g. ``"CartPole-v1"``, or ``"module:Name-v0"``, which Gymnasium imports itself
    :raises InvalidValue: not registered; the message offers the nearest name
    """
    if ":" in env_id or env_id in gym.registry:
        return
    try:
        gym.spec(env_id)
    except gym.error.Error as error:
        names = [name for name in gym.registry if not name.startswith(("phys2d", "tabular"))]
        raise InvalidValue(f"unknown environment '{env_id}'{did_you_mean(env_id, names)}") from error


def frame_stack_of(env: VecEnv) -> int:
    """
    How many frames an observation stacks, as far as the environment tells.

    :param env: vector environment, wrapped or not, with the observations the agent sees
    :return: the number for :class:`~sbbatch.envs.ale.AleVecEnv` and SB3's ``VecFrameStack`` of images, otherwise 1
        (observations are then stored whole, which is always right)
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
