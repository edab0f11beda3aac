"""One environment of a run, as it is made in this process or in one of its own."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import TimeLimit

from sbbatch.envs.make import make_gym_env
from sbbatch.errors import InvalidValue, UserError, reason_of
from sbbatch.settings.imports import ClassSpec, import_packages
from sbbatch.zoo.console.progress import warn

# An evaluation must end; the longest limit of Gymnasium's own environments without ALE is 2,000.
UNLIMITED_STEPS = 10_000


@dataclass(frozen=True)
class EnvRecipe:
    """
    What single environments are made from.

    :param training: ``False``: episodes end after :data:`UNLIMITED_STEPS` if the environment has no limit of its own
    :param max_steps: agent steps after which an episode is cut off (``None``: the environment's own limit)
    :param wrappers: the innermost first
    :param packages: modules to import first, which register environments
    :param apart: whether it is made in a process of its own
    """

    env_id: str
    training: bool = True
    max_steps: int | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    wrappers: tuple[ClassSpec, ...] = ()
    packages: tuple[str, ...] = ()
    apart: bool = False

    def make(self) -> gym.Env:
        """The environment without its wrappers, or a ``UserError`` if it cannot be made."""
        if self.apart:
            # Ctrl-C reaches every process of a terminal; the one that learns decides when its environments end.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        import_packages(self.packages)
        limit = {} if self.max_steps is None else {"max_episode_steps": self.max_steps}
        try:
            env = make_gym_env(self.env_id, **self.kwargs, **limit)
        except (AssertionError, TypeError, ValueError) as error:
            if isinstance(error, UserError) or not self.kwargs:
                raise
            key = "env_kwargs" if self.training else "eval_env_kwargs or env_kwargs"
            raise InvalidValue(
                f"{key}: {self.env_id} cannot be made with {self.kwargs} ({reason_of(error)})"
            ) from error
        unlimited = env.spec is not None and env.spec.max_episode_steps is None
        return LastLimit(env) if unlimited and not self.training and self.max_steps is None else env

    def wrap(self, env: gym.Env) -> gym.Env:
        """What :meth:`make` has made, in its wrappers."""
        for wrapper in self.wrappers:
            env = wrapper.make(env)
        return env


class LastLimit(TimeLimit):
    """Cuts off episodes that have no time limit, which a greedy agent may never end, and says so once."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env, UNLIMITED_STEPS)
        self._told = False

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's."""
        observation, reward, terminated, truncated, info = super().step(action)
        if truncated and not self._told:
            self._told = True
            name = self.spec.id if self.spec is not None else "the environment"
            warn(
                f"an episode was cut off after {UNLIMITED_STEPS:,} agent steps, as {name} has no time limit; set one "
                "with --eval-max-steps, or --max-steps of enjoy"
            )
        return observation, reward, terminated, truncated, info
