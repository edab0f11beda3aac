"""
What an argument may be, declared once: in the signature that takes it.

``n_steps: Annotated[int, Within(1)]`` is all that the constructor, ``load``, YAML files and the command line need to
know. What types and limits cannot say is a function: ``device: Annotated[str, check_device]``. Numbers of NumPy become
Python's here, so that nothing behind a constructor ever meets one.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.errors import InvalidType, InvalidValue, check_int, check_number, check_schedule, describe, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])
Check = Callable[[str, Any], Any]  # from an argument's name and value to the value as it is used

_WORDS = {int: "an int", float: "a number", bool: "True or False", str: "text", dict: "a dictionary", tuple: "a tuple"}


@dataclass(frozen=True)
class Within:
    """
    Limits of a number, or of the values of a schedule.

    :param low: smallest allowed value
    :param high: largest allowed value
    :param open_low: whether ``low`` itself is excluded
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False


Count = Annotated[int, Within(1)]
Natural = Annotated[int, Within(0)]
Fraction = Annotated[float, Within(0.0, 1.0)]
Positive = Annotated[float, Within(0.0, open_low=True)]
FractionSchedule = Annotated[float | Schedule, Within(0.0, 1.0)]


@dataclass(frozen=True)
class Argument:
    """
    One argument of a function or constructor.

    :param name: its name
    :param default: its default (``inspect.Parameter.empty``: none)
    :param kinds: the types it may have, e.g. ``(int, NoneType)``; empty if any will do
    :param limits: of the number it is, or that its schedule gives
    :param own_check: from name and value to the value, in the place of types and limits
    """

    name: str
    default: Any
    kinds: tuple[Any, ...]
    limits: Within = Within()
    own_check: Check | None = None

    def check(self, value: Any, where: str | None = None) -> Any:
        """
        :param value: what was given
        :param where: what the user calls the argument, if not by its name
        :return: the value, as a Python number if it is one of NumPy
        :raises InvalidValue: it is of the right type and not allowed
        :raises InvalidType: it is of no type that the argument may have
        """
        where = self.name if where is None else where
        value = value.item() if isinstance(value, np.generic) else value
        if self.own_check is not None:
            return self.own_check(where, value)
        if not self.kinds or (value is None and type(None) in self.kinds):
            return value
        names = [name for kind in self.kinds if get_origin(kind) is Literal for name in get_args(kind)]
        if any(name == value and type(name) is type(value) for name in names):
            return value
        if self.schedules and callable(value) and not isinstance(value, type):
            check_schedule(where, value, self.limits.low, self.limits.high)
            return value
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number or set(self.kinds) <= {int, float, type(None)}:
            return self._check_number(where, value)
        if any(_is_a(value, kind) for kind in self.kinds):
            return value
        if names and isinstance(value, str):
            raise InvalidValue(f"{where}: got {value!r}{did_you_mean(value, names)}")
        raise InvalidType(f"{where}: got {describe(value)}, expected {self.expected}")

    def _check_number(self, where: str, value: Any) -> Any:
        low, high = self.limits.low, self.limits.high
        if float in self.kinds:
            check_number(where, value, low, high, self.limits.open_low)
            return value
        if int in self.kinds:
            ends = [None if math.isinf(end) else int(end) for end in (low, high)]
            return check_int(where, value, ends[0], ends[1])
        raise InvalidType(f"{where}: got {describe(value)}, expected {self.expected}")

    @property
    def schedules(self) -> bool:
        """Whether it may be a function of the progress remaining."""
        return float in self.kinds and any(get_origin(kind) is collections.abc.Callable for kind in self.kinds)

    @property
    def expected(self) -> str:
        """What it may be, in words."""
        words = [_in_words(kind) for kind in self.kinds if kind is not type(None)]
        return " or ".join(dict.fromkeys(words)) + (" or None" if type(None) in self.kinds else "")


@functools.cache
def declared(function: Callable[..., Any]) -> Mapping[str, Argument]:
    """
    :param function: a function, or a class, whose constructor is meant
    :return: its arguments by name, without ``self``, ``*args`` and ``**kwargs``
    """
    is_class = isinstance(function, type)
    target = function.__init__ if is_class else function
    # SB3's `GymEnv` names this class in a string, which not every module that uses it has imported.
    hints = typing.get_type_hints(target, localns={"VecEnv": VecEnv}, include_extras=True)
    parameters = list(inspect.signature(target).parameters.values())
    named = [one for one in parameters[is_class:] if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    return {one.name: Argument(one.name, one.default, *_read(hints.get(one.name, Any))) for one in named}


def check_arguments(function: Callable[..., Any], values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """
    :param function: whose arguments they are
    :param values: by name; what the function does not have is left out
    :param prefix: the beginning of every message, e.g. ``"policy_kwargs: "``
    :return: those it has, numbers of NumPy as Python's
    :raises UserError: one that is not allowed
    """
    arguments = declared(function)
    return {name: arguments[name].check(value, prefix + name) for name, value in values.items() if name in arguments}


def checked(function: F, prefix: str = "") -> F:
    """
    A constructor that checks what it is called with: a decorator of ``__init__``, or of a dataclass.

    :param function: its annotations say what is allowed
    :param prefix: the beginning of every message
    :raises InvalidType: (when called) also an argument that does not exist; the message offers the nearest name
    """
    if not isinstance(function, FunctionType):
        function.__init__ = checked(function.__init__, prefix)  # type: ignore[method-assign]
        return function
    signature = inspect.signature(function)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())

    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if not takes_any and name not in signature.parameters:
                hint = did_you_mean(name, list(signature.parameters)[1:])
                raise InvalidType(f"{type(self).__name__}: unknown argument '{name}'{hint}")
        bound = signature.bind(self, *args, **kwargs)
        bound.arguments.update(check_arguments(function, bound.arguments, prefix))
        return function(*bound.args, **bound.kwargs)

    return typing.cast(F, call)


def in_python(value: Any) -> Any:
    """
    :param value: anything; in dictionaries, lists and tuples too, numbers of NumPy become Python's
    """
    if isinstance(value, dict):
        return {key: in_python(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(in_python(item) for item in value)
    return value.item() if isinstance(value, np.generic) else value


def _read(hint: Any) -> tuple[tuple[Any, ...], Within, Check | None]:
    """The alternatives of an annotation, the limits of the number among them, and a check of its own."""
    if get_origin(hint) is Annotated:
        kinds, limits, own_check = _read(get_args(hint)[0])
        limits = next((one for one in hint.__metadata__ if isinstance(one, Within)), limits)
        return kinds, limits, next((one for one in hint.__metadata__ if isinstance(one, FunctionType)), own_check)
    if get_origin(hint) in (Union, UnionType):
        parts = [_read(part) for part in get_args(hint)]
        limits = next((limits for _, limits, _ in parts if limits != Within()), Within())
        own_check = next((check for _, _, check in parts if check is not None), None)
        return tuple(kind for kinds, _, _ in parts for kind in kinds), limits, own_check
    any_will_do = hint in (Any, object) or isinstance(hint, TypeVar)
    return () if any_will_do else (hint,), Within(), None


def _is_a(value: Any, kind: Any) -> bool:
    origin = get_origin(kind) or kind
    if origin is type:
        base = (get_args(kind) or (object,))[0]
        return isinstance(value, type) and (not isinstance(base, type) or issubclass(value, base))
    if origin is collections.abc.Callable:
        return callable(value)
    return isinstance(origin, type) and isinstance(value, origin) and not isinstance(value, type)


def _in_words(kind: Any) -> str:
    if kind == Schedule:
        return "a schedule such as a function of the progress remaining"
    if get_origin(kind) is collections.abc.Callable:
        return "a function"
    if get_origin(kind) is Literal:
        return " or ".join(repr(name) for name in get_args(kind))
    if get_origin(kind) is type:
        base = (get_args(kind) or (object,))[0]
        return f"a subclass of {getattr(base, '__name__', base)}"
    origin = get_origin(kind) or kind
    return _WORDS.get(origin) or f"a {getattr(origin, '__name__', origin)}"
