"""What an environment returns, judged where it is returned: SB3 would spread, cut or cast it, or fail elsewhere."""

from __future__ import annotations

import traceback
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sbbatch.envs.checks import SIMPLE_SPACES
from sbbatch.errors import InvalidValue, describe, describe_space, reason_of

_RETURNED_BY = {
    "step": ("(observation, reward, terminated, truncated, info)", 5),
    "reset": ("(observation, info)", 2),
}
# Gymnasium's own wrappers and checks, which fail in their words at what an environment returns.
_OF_GYMNASIUM = ("gymnasium.utils.passive_env_checker", "gymnasium.wrappers.")


class Misbehavior(InvalidValue):
    """
    An environment returned what none may return.

    :param what: that
    :param expected: what it may return
    """

    def __init__(self, what: str, expected: str) -> None:
        super().__init__(f"{what}, expected {expected}")


class JudgedEnv(gym.Wrapper):
    """
    An environment whose ``step`` and ``reset`` return what Gymnasium says, or raise :class:`Misbehavior`. A reward of
    one element becomes a number. All attributes are the environment's own.

    :param env: the environment
    :param index: its place in the vector environment; ``None``: unknown
    :param observations: whether observations are judged as well
    """

    def __init__(self, env: gym.Env, index: int | None = None, observations: bool = True) -> None:
        super().__init__(env)
        self._index, self._observations, self._space = index, observations, env.observation_space
        # What most environments show; looking closer takes longer than many of their steps.
        self._usual = (self._space.shape, self._space.dtype) if isinstance(self._space, spaces.Box) else None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "env":
            raise AttributeError(name)
        return getattr(self.env, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or name == "env":
            super().__setattr__(name, value)
        else:
            setattr(self.env, name, value)

    @property
    def _who(self) -> str:
        return "the environment" if self._index is None else f"environment {self._index}"

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """As of the environment, which may not take ``options``."""
        observation, info = self._returned("reset", **kwargs)
        self._look(observation)
        return observation, self._info("reset", info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As of the environment."""
        observation, reward, terminated, truncated, info = self._returned("step", action)
        self._look(observation)
        if not isinstance(reward, (float, int, np.floating, np.integer)):
            reward = self._number("reward", reward, "a number")
        if not isinstance(terminated, bool):
            terminated = bool(self._number("terminated flag", terminated, "True or False"))
        if not isinstance(truncated, bool):
            truncated = bool(self._number("truncated flag", truncated, "True or False"))
        return observation, reward, terminated, truncated, self._info("step", info)

    def _returned(self, method: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        expected, n_expected = _RETURNED_BY[method]
        try:
            returned = getattr(self.env, method)(*args, **kwargs)
        except (AssertionError, TypeError, ValueError) as error:
            *_, (frame, _) = traceback.walk_tb(error.__traceback__)
            if not f"{frame.f_globals.get('__name__')}.".startswith(_OF_GYMNASIUM):
                raise
            raise Misbehavior(f"{method} of {self._who} fails in Gymnasium ({reason_of(error)})", expected) from error
        if not isinstance(returned, tuple) or len(returned) != n_expected:
            got = f"{len(returned)} values" if isinstance(returned, tuple) else describe(returned)
            raise Misbehavior(f"{method} of {self._who} returned {got}", expected)
        return returned

    def _info(self, method: str, info: Any) -> dict[str, Any]:
        if not isinstance(info, dict):
            raise Misbehavior(f"{method} of {self._who} returned the info {describe(info)}", "a dictionary")
        return info

    def _number(self, quantity: str, value: Any, expected: str) -> Any:
        """The only element of a value."""
        array = as_array(value)
        if array.size == 1 and array.dtype.kind in "biuf":
            return array.item()
        raise Misbehavior(f"the {quantity} of {self._who} is {describe(value)}", expected)

    def _look(self, observation: Any) -> None:
        if self._observations and not (
            type(observation) is np.ndarray and (observation.shape, observation.dtype) == self._usual
        ):
            self._judge("observation", observation, self._space)

    def _judge(self, quantity: str, value: Any, space: spaces.Space) -> None:
        if isinstance(space, spaces.Dict):
            if not (isinstance(value, dict) and space.spaces.keys() <= value.keys()):
                got = f"a dictionary of {', '.join(map(str, value))}" if isinstance(value, dict) else describe(value)
                raise Misbehavior(f"the {quantity} of {self._who} is {got}", f"one of {', '.join(space.spaces)}")
            for key, part in space.spaces.items():
                self._judge(f"{quantity} {key}", value[key], part)
            return
        if not isinstance(space, SIMPLE_SPACES):
            return  # of what is made readable further out
        array = as_array(value)
        if array.dtype.kind not in "biuf":
            raise Misbehavior(f"the {quantity} of {self._who} is {describe(value)}", describe_space(space))
        if array.shape != space.shape:
            raise Misbehavior(f"the {quantity} of {self._who} has the shape {array.shape}", describe_space(space))
        if space.dtype.kind in "biu" and array.dtype != space.dtype:
            with np.errstate(invalid="ignore"):
                lost = array[array.astype(space.dtype) != array]
            if lost.size:
                got = f"the {quantity} of {self._who} contains {array.dtype} {lost[0]}"
                raise Misbehavior(got, describe_space(space))
        if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
            past = space.start + (space.n if isinstance(space, spaces.Discrete) else space.nvec)
            if ((array < space.start) | (array >= past)).any():
                raise Misbehavior(f"the {quantity} of {self._who} is {describe(value)}", describe_space(space))


def as_array(value: Any) -> np.ndarray:
    """The value as an array; one without numbers if it is none, such as lists of several lengths."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # the last of PyTorch's tensors
        return np.asarray(None)


def judged(env: Any) -> Any:
    """
    An environment that is judged: before SB3's ``Monitor``, which counts its rewards, and as a whole. So are those of a
    ``DummyVecEnv``, in their places; other vector environments are returned as they are.
    """
    if isinstance(env, gym.Env):
        return _judged(env, 0)
    if isinstance(env, VecEnv) and isinstance(env.unwrapped, DummyVecEnv):
        env.unwrapped.envs = [_judged(one, i) for i, one in enumerate(env.unwrapped.envs)]
    return env


def _judged(env: gym.Env, index: int) -> gym.Env:
    inside = env.env if isinstance(env, Monitor) else env
    whole = isinstance(inside, JudgedEnv) and inside._observations  # nothing around it that could spoil anything
    layer = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, Monitor) and not isinstance(layer.env, JudgedEnv):
            layer.env = JudgedEnv(layer.env, index, observations=False)
        if isinstance(layer, JudgedEnv):
            layer._index = index
        layer = layer.env
    return env if whole else JudgedEnv(env, index)
