"""Stopping between two steps instead of in the middle of one."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvStepReturn

from sbbatch.agents.base.finite import require_finite_step


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

    Numbers that are none stop the run at the step where they appear. The last step is remembered: where a callback
    stops SB3's loop, the agent would otherwise go on from the observation before it.
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
        self.last = observations, rewards, dones, infos = self._env.step(actions)
        step = self._agent.num_timesteps + self._env.num_envs
        require_finite_step(observations, rewards, dones, infos, step)  # type: ignore[arg-type]
        return self.last
