"""What an environment returns, judged where it is returned: SB3 would spread, cut or cast it, or fail elsewhere."""

from __future__ import annotations

import traceback
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv, VectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sbbatch.envs.checks import SIMPLE_SPACES
from sbbatch.errors import InvalidValue, describe, describe_space, reason_of

_RETURNED_BY = {
    "step": ("step(action) -> (observation, reward, terminated, truncated, info)", 5),
    "reset": ("reset(seed=...) -> (observation, info)", 2),
}
# Gymnasium's own wrappers and checks, which fail in their words at what an environment returns; and the call itself, of
# a method that does not take what it is given.
_NOT_THE_USERS = ("gymnasium.utils.passive_env_checker", "gymnasium.wrappers.", "gymnasium.core.", f"{__name__}.")
_LARGEST = 1e308  # that a float can be; Python's integers go on


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
        is_number = isinstance(reward, (float, np.floating, np.integer))
        if not is_number and not (isinstance(reward, int) and abs(reward) < _LARGEST):
            reward = self._number("reward", reward, "a number")
        if not isinstance(terminated, bool):
            terminated = self._flag("terminated", terminated)
        if not isinstance(truncated, bool):
            truncated = self._flag("truncated", truncated)
        return observation, reward, terminated, truncated, self._info("step", info)

    def _returned(self, method: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        expected, n_expected = _RETURNED_BY[method]
        try:
            returned = getattr(self.env, method)(*args, **kwargs)
        except (AssertionError, TypeError, ValueError) as error:
            *_, (frame, _) = traceback.walk_tb(error.__traceback__)
            of_user = not f"{frame.f_globals.get('__name__')}.".startswith(_NOT_THE_USERS)
            if of_user or isinstance(error, Misbehavior):
                raise
            raise Misbehavior(f"{method} of {self._who} fails ({reason_of(error)})", expected) from error
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

    def _flag(self, quantity: str, value: Any) -> bool:
        number = self._number(f"{quantity} flag", value, "True or False")
        if number not in (0, 1):
            raise Misbehavior(f"the {quantity} flag of {self._who} is {number}", "True or False")
        return bool(number)

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
        require_held(f"{quantity} of {self._who}", array, space)


def require_held(what: str, values: np.ndarray, space: spaces.Space) -> None:
    """
    Refuse numbers that a space does not hold: its dtype would change them, or they are not among those it counts.

    :param what: quantity and whose, for the message
    :param values: of one environment or of several, ``(..., *shape)``
    :param space: a simple one
    :raises Misbehavior: the first of them
    """
    assert space.dtype is not None
    if space.dtype.kind in "biu" and values.dtype != space.dtype:
        with np.errstate(invalid="ignore"):
            lost = values[values.astype(space.dtype) != values]
        if lost.size:
            raise Misbehavior(f"the {what} contains {values.dtype} {lost[0]}", describe_space(space))
    if isinstance(space, spaces.Box):
        return
    start = getattr(space, "start", 0)
    n = space.n if isinstance(space, spaces.Discrete) else getattr(space, "nvec", 2)  # of a MultiBinary
    if ((values < start) | (values >= start + n)).any():
        raise Misbehavior(f"the {what} is {describe(values)}", describe_space(space))


def as_array(value: Any) -> np.ndarray:
    """The value as an array; one without numbers if it is none, such as lists of several lengths."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # the last of PyTorch's tensors
        return np.asarray(None)


def judged(env: Any) -> Any:
    """
    An environment that is judged: before SB3's ``Monitor``, which counts its rewards, and as a whole. So are those of a
    ``DummyVecEnv`` or ``SyncVectorEnv``, in their places; other vector environments are returned as they are.
    """
    if isinstance(env, gym.Env):
        return _judged(env, 0)
    base = env.unwrapped if isinstance(env, (VecEnv, VectorEnv)) else None
    if isinstance(base, (DummyVecEnv, SyncVectorEnv)):
        base.envs = [_judged(one, i) for i, one in enumerate(base.envs)]
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
