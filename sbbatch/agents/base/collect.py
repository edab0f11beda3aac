"""Stopping between two steps instead of in the middle of one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvStepReturn

from sbbatch.agents.base.finite import require_finite_step
from sbbatch.envs.judged import Misbehavior, as_array, require_held
from sbbatch.envs.readable import as_played
from sbbatch.errors import InvalidValue, describe, describe_space


class Stopped(Exception):
    """Leaves the loop that collects steps, after the last one was stored."""


class DeferredStop:
    """
    A callback's wish to stop, granted after the step has been stored.

    SB3 leaves its loop between playing a step and storing it: the step counter is then one ahead of the replay buffer,
    and the observation the agent would go on from is one behind the environment.
    """

    def __init__(self, callback: BaseCallback) -> None:
        self._callback = callback
        self._stop = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._callback, name)

    def __deepcopy__(self, _: dict[int, Any]) -> None:
        """The copy of an agent that is collecting steps is not collecting any."""

    def on_step(self) -> bool:
        """Ask the callbacks, and remember."""
        self._stop = not self._callback.on_step()
        return True

    def step_stored(self) -> None:
        """Leave the loop if the callbacks asked to."""
        if self._stop:
            raise Stopped


class WatchedSteps:
    """
    The environments of an agent that collects a rollout.

    Actions reach them as they take them, and numbers that are none stop the run at the step where they appear. The last
    step is remembered: where a callback stops SB3's loop, the agent would otherwise go on from the observation before
    it.
    """

    def __init__(self, env: VecEnv, agent: BaseAlgorithm) -> None:
        self._env = env
        self._agent = agent
        self.last: VecEnvStepReturn | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # of a copy, which has nothing yet
            raise AttributeError(name)
        return getattr(self._env, name)

    def step(self, actions: np.ndarray) -> VecEnvStepReturn:
        """As of the environments."""
        played = as_played(actions, self._env.action_space)
        observations, rewards, dones, infos = self._env.step(played)
        step = self._agent.num_timesteps + self._env.num_envs
        rewards = judged_step(self._env, observations, rewards, dones, infos, step)
        self.last = observations, rewards, dones, infos
        return self.last


@contextmanager
def step_named(agent: BaseAlgorithm, ahead: int = 0) -> Iterator[None]:
    """What an environment may not return is told with the step; ``ahead`` of what the agent has counted."""
    try:
        yield
    except Misbehavior as error:
        raise InvalidValue(f"step {agent.num_timesteps + ahead}: {error}") from error


def judged_step(
    env: VecEnv, observations: Any, rewards: Any, dones: np.ndarray, infos: Sequence[dict[str, Any]], step: int
) -> np.ndarray:
    """
    Stop the run where ``env.step`` returned a number that is NaN or infinite, or arrays of other shapes.

    :return: the rewards ``(n_envs,)``
    """
    judge_observations(observations, env, step)
    if not (isinstance(rewards, np.ndarray) and rewards.shape == (env.num_envs,) and rewards.dtype.kind == "f"):
        numbers = as_array(rewards)
        if numbers.dtype.kind not in "biuf" or numbers.size != env.num_envs:
            got = f"step {step}: the rewards of the environments are {describe(rewards)}"
            raise InvalidValue(f"{got}, expected a number for each of the {env.num_envs}")
        rewards = numbers.reshape(env.num_envs)
    require_finite_step(observations, rewards, dones, infos, step)
    return rewards


def judge_observations(observations: Any, env: VecEnv, step: int) -> None:
    """What arrives from environments that nobody has judged, such as those of a user's own processes."""
    space = env.observation_space
    for key, part in space.spaces.items() if isinstance(space, spaces.Dict) else [("", space)]:
        values, who = (observations[key] if key else observations), " ".join(["observation", key]).strip()
        if np.size(values) != env.num_envs * math.prod(part.shape or ()):
            got = f"step {step}: the {who} of the environments has the shape {np.shape(values)}"
            raise InvalidValue(f"{got}, expected {describe_space(part)} for each of the {env.num_envs}")
        try:
            require_held(f"{who} of the environments", np.asarray(values), part)
        except Misbehavior as error:
            raise InvalidValue(f"step {step}: {error}") from None
