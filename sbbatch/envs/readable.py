"""What the environment shows, as networks can read it, and what the agent chose, as the environment takes it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FilterObservation
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sbbatch.errors import describe_space


class FlatMultiDiscrete(spaces.MultiDiscrete):
    """
    A ``MultiDiscrete`` space of several dimensions, in one: SB3's networks and buffers know no others.

    :param whole: the space as the environment has it
    """

    def __init__(self, whole: spaces.MultiDiscrete) -> None:
        super().__init__(whole.nvec.flatten(), dtype=whole.dtype.type, start=whole.start.flatten())
        self.whole_shape: tuple[int, ...] = whole.shape


def is_text(space: spaces.Space) -> bool:
    """Whether samples of a space are text: Gymnasium's ``Text``, and spaces like MiniGrid's missions."""
    return space.dtype is not None and space.dtype.kind == "U"


def readable_space(space: spaces.Space) -> spaces.Space:
    """The space without the texts of a Dict, and flat; the space itself if nothing changes."""
    if isinstance(space, spaces.Dict):
        parts = {key: readable_space(part) for key, part in space.spaces.items() if not is_text(part)}
        if not parts or (len(parts) == len(space.spaces) and all(parts[key] is space.spaces[key] for key in parts)):
            return space
        return spaces.Dict(parts)
    return FlatMultiDiscrete(space) if isinstance(space, spaces.MultiDiscrete) and len(space.shape) > 1 else space


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)


def readable(env: Any, tell: Callable[[str], Any] | None = _warn) -> Any:
    """
    An environment whose observations the agents can read: texts of a Dict are left out, with a warning, and
    ``MultiDiscrete`` of several dimensions is flat. What needs no change is returned as it is.

    :param env: environment or vector environment; anything else is passed on
    :param tell: called with what is left out, in a sentence; ``None``: nothing
    """
    space = getattr(env, "observation_space", None)
    texts = [key for key, part in space.spaces.items() if is_text(part)] if isinstance(space, spaces.Dict) else []
    if isinstance(env, VecEnv) and space is not None and (shown := readable_space(space)) is not space:
        readable_env: Any = VecReadable(env, shown)
    elif isinstance(env, gym.Env) and isinstance(space, spaces.Dict) and 0 < len(texts) < len(space.spaces):
        # Before SB3 makes a vector environment of it, which has no room for texts.
        readable_env = FilterObservation(env, [key for key in space.spaces if key not in texts])
    else:
        return env
    if texts and tell is not None:
        rest = describe_space(readable_env.observation_space)
        tell(
            f"observation {', '.join(texts)}: a text, from which no agent here learns, is left out; {rest} is left. "
            "A wrapper that makes numbers of it, such as minigrid.wrappers.FlatObsWrapper, would keep it"
        )
    return readable_env


def as_read(observation: Any, space: spaces.Space) -> Any:
    """
    An observation of the environment, or a batch of them, in a space of :func:`readable_space`; one that was there
    already stays.
    """
    if isinstance(space, spaces.Dict) and isinstance(observation, dict):
        return {key: as_read(part, space.spaces[key]) for key, part in observation.items() if key in space.spaces}
    if isinstance(space, FlatMultiDiscrete):
        array, n = np.asarray(observation), len(space.whole_shape)
        if array.shape[-n:] == space.whole_shape and array.shape != (1, *space.shape):  # a flat batch of one
            return array.reshape(*array.shape[:-n], *space.shape)
    return observation


def as_played(actions: np.ndarray, space: spaces.Space) -> np.ndarray:
    """
    Actions of a policy, which counts from 0 and knows few dtypes, as the environment takes them.

    :param actions: one, or a batch
    :param space: the environment's actions
    """
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)) and np.any(space.start):
        actions = actions + space.start
    if isinstance(space, spaces.Box) and space.dtype.kind in "iu":
        actions = np.rint(actions)
    return actions.astype(space.dtype, copy=False)


class VecReadable(VecEnvWrapper):
    """
    See :func:`readable`.

    :param venv: the environments
    :param observation_space: what is shown of them
    """

    def __init__(self, venv: VecEnv, observation_space: spaces.Space) -> None:
        super().__init__(venv, observation_space=observation_space)

    def reset(self) -> VecEnvObs:
        """As of the environments."""
        return as_read(self.venv.reset(), self.observation_space)

    def step_wait(self) -> VecEnvStepReturn:
        """As of the environments, final observations included."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones):
            if "terminal_observation" in infos[i]:
                final = as_read(infos[i]["terminal_observation"], self.observation_space)
                infos[i] = {**infos[i], "terminal_observation": final}
        return as_read(observations, self.observation_space), rewards, dones, infos
