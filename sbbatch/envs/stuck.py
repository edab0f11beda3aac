"""Episodes in which a greedy policy is stuck: it does the same for ever, and earns nothing by it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

STUCK_STEPS = 500
STUCK_HELP = f"cut off a greedy episode after so many steps without reward or anything new ({STUCK_STEPS}; -1: never)"


def describe_stuck(patience: int) -> str:
    """What is said when an episode is cut off."""
    return f"an episode was cut off: no reward and nothing new for {patience:,} agent steps (--stuck-steps)"


class StuckDetector:
    """
    Whether one episode is stuck: for ``patience`` agent steps there was no reward, and nothing was seen that had not
    been seen since the last one. A policy that acts on what it sees is then in a cycle, however long.

    :param patience: -1: it never is
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.restart()

    def restart(self) -> None:
        """Another episode begins."""
        self._seen: set[int] = set()
        self._idle = 0

    def __call__(self, observation: Any, reward: float) -> bool:
        """After a step, with what it led to."""
        if self.patience == -1:
            return False
        if reward != 0.0:
            self.restart()
        parts = observation.values() if isinstance(observation, dict) else [observation]
        look = hash(tuple(np.asarray(part).tobytes() for part in parts))
        self._idle = self._idle + 1 if look in self._seen else 0
        self._seen.add(look)
        return self._idle >= self.patience


class StuckLimit(VecEnvWrapper):
    """
    Truncates episodes that are stuck. For evaluation: it goes directly around vector environments with raw rewards that
    can start one of their episodes anew (``restart``, or environments with ``reset``).

    :param venv: vector environments
    :param patience: see :class:`StuckDetector`
    :param tell: called with a sentence the first time that an episode is cut off
    """

    def __init__(self, venv: VecEnv, patience: int, tell: Callable[[str], Any] | None = None) -> None:
        super().__init__(venv)
        self.tell = tell
        self.detectors = [StuckDetector(patience) for _ in range(venv.num_envs)]
        self._began = time.time()

    def reset(self) -> VecEnvObs:
        """Start a new episode everywhere."""
        self._returns, self._lengths = np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=int)
        for detector in self.detectors:
            detector.restart()
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """As the environments', with the episodes that are stuck truncated."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self._returns += rewards
        self._lengths += 1
        for i, detector in enumerate(self.detectors):
            if not dones[i] and detector(_of(observations, i), float(rewards[i])):
                if self.tell is not None:
                    self.tell(describe_stuck(detector.patience))
                    self.tell = None
                episode = {"r": float(self._returns[i]), "l": int(self._lengths[i]), "t": time.time() - self._began}
                final = {"terminal_observation": _copied(_of(observations, i)), "TimeLimit.truncated": True}
                infos[i] = {**infos[i], **final, "episode": episode, "stuck": True}
                dones[i] = True
                _put(observations, i, self._restart(i))
            if dones[i]:
                detector.restart()
                self._returns[i] = self._lengths[i] = 0
        return observations, rewards, dones, infos

    def _restart(self, i: int) -> Any:
        if hasattr(self.venv, "restart"):
            return self.venv.restart(i)
        return self.venv.env_method("reset", indices=[i])[0][0]


def _of(observations: Any, i: int) -> Any:
    return {key: part[i] for key, part in observations.items()} if isinstance(observations, dict) else observations[i]


def _copied(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: np.copy(part) for key, part in observation.items()}
    return np.copy(observation)


def _put(observations: Any, i: int, new: Any) -> None:
    if isinstance(observations, dict):
        for key, part in observations.items():
            part[i] = new[key]
    else:
        observations[i] = new
