"""
What an argument may be, declared once, in the signature that takes it, for the constructor, ``load``, YAML files and
the command line: ``n_steps: Annotated[int, Within(1)]``. What types and limits cannot say is a function: ``device:
Annotated[str, check_device]``. Numbers of NumPy become Python's here. A recipe changes no more than defaults.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import math
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import FunctionType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.errors import InvalidType, InvalidValue, check_int, check_number, check_schedule, describe, did_you_mean

F = TypeVar("F", bound=Callable[..., Any])
Check = Callable[[str, Any], Any]  # from an argument's name and value to the value as it is used

_WORDS: dict[Any, str] = {int: "an int", float: "a number", bool: "True or False", str: "text", type: "a class"}
_WORDS |= {dict: "a dictionary", collections.abc.Callable: "a function", type(None): "None"}


@dataclass(frozen=True)
class Within:
    """Limits of a number, or of the values of a schedule; ``open_low`` excludes ``low`` itself."""

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
    """One argument of a function or constructor."""

    name: str
    default: Any  # `inspect.Parameter.empty`: none
    kinds: tuple[Any, ...]  # the types it may have, e.g. `(int, NoneType)`; empty if any will do
    limits: Within = Within()
    own_check: Check | None = None  # in the place of types and limits

    def check(self, value: Any, where: str | None = None) -> Any:
        """
        The value, as a Python number if it is one of NumPy.

        :param where: what the user calls the argument, if not by its name
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
        low, high = self.limits.low, self.limits.high
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        only_numbers = set(self.kinds) <= {int, float, type(None)}
        if self.schedules and callable(value) and not isinstance(value, type):
            check_schedule(where, value, low, high)
        elif float in self.kinds and (is_number or only_numbers):
            check_number(where, value, low, high, self.limits.open_low)
        elif int in self.kinds and (is_number or only_numbers):
            return check_int(where, value, low, high)
        elif names and isinstance(value, str):
            raise InvalidValue(f"{where}: got {value!r}{did_you_mean(value, names)}")
        elif not any(_is_a(value, kind) for kind in self.kinds):
            expected = " or ".join(dict.fromkeys(map(_in_words, self.kinds)))
            raise InvalidType(f"{where}: got {describe(value)}, expected {expected}")
        return value

    @property
    def schedules(self) -> bool:
        """Whether it may be a function of the progress remaining."""
        return float in self.kinds and any(get_origin(kind) is collections.abc.Callable for kind in self.kinds)


@functools.cache
def declared(function: Callable[..., Any]) -> Mapping[str, Argument]:
    """The arguments of a function or constructor by name, without ``self``, ``*args`` and ``**kwargs``."""
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
    :param values: by name
    :param prefix: the beginning of every message, e.g. ``"policy_kwargs: "``
    :return: those that the function has, numbers of NumPy as Python's
    """
    arguments = declared(function)
    return {name: arguments[name].check(value, prefix + name) for name, value in values.items() if name in arguments}


def checked(function: F, prefix: str = "") -> F:
    """
    A constructor that checks what it is called with, and offers the nearest name of an argument that does not exist.

    :param function: ``__init__``, or a dataclass
    :param prefix: the beginning of every message
    """
    if not isinstance(function, FunctionType):
        function.__init__ = checked(function.__init__, prefix)  # type: ignore[method-assign]
        return function
    signature = inspect.signature(function)
    # A default, too, is written as users write it. A dataclass has a placeholder for what it makes anew.
    given = {name: one.default for name, one in signature.parameters.items() if one.default is not one.empty}
    defaults = {name: value for name, value in given.items() if "FACTORY" not in type(value).__name__}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())

    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if not takes_any and name not in signature.parameters:
                hint = did_you_mean(name, list(signature.parameters)[1:])
                raise InvalidType(f"{type(self).__name__}: unknown argument '{name}'{hint}")
        bound = signature.bind(self, *args, **kwargs)
        bound.arguments.update(check_arguments(function, defaults | bound.arguments, prefix))
        return function(*bound.args, **bound.kwargs)

    return typing.cast(F, call)


def with_defaults(
    init: Callable[..., Any], defaults: dict[str, Any], ignored: Collection[str] = ()
) -> Callable[..., Any]:
    """
    The same constructor with other default values, which ``inspect.signature`` (and so ``help`` and the command line)
    shows. A recipe lists what it changes and nothing else.

    :param init: constructor of the base class
    :param defaults: name -> default
    :param ignored: keyword arguments that are dropped: what a caller gives to every class and this one has no use for
    """
    signature = inspect.signature(init)
    names = list(signature.parameters)[1:]
    assert set(defaults) <= set(names), f"a recipe sets arguments its base class does not have: {defaults}"

    @functools.wraps(init)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        others = {name: value for name, value in defaults.items() if name not in names[: len(args)]}
        return init(self, *args, **others | {name: value for name, value in kwargs.items() if name not in ignored})

    parameters = signature.parameters.values()
    new = [parameter.replace(default=defaults.get(parameter.name, parameter.default)) for parameter in parameters]
    method.__signature__ = signature.replace(parameters=new)  # type: ignore[attr-defined]
    return method


def in_python(value: Any) -> Any:
    """The value with Python's numbers for NumPy's, in dictionaries, lists and tuples too."""
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
    return () if hint is Any or isinstance(hint, TypeVar) else (hint,), Within(), None


def _is_a(value: Any, kind: Any) -> bool:
    origin = get_origin(kind) or kind
    if origin is type:
        base = (get_args(kind) or (object,))[0]
        return isinstance(value, type) and (not isinstance(base, type) or issubclass(value, base))
    if origin is collections.abc.Callable:
        return callable(value)
    return isinstance(origin, type) and isinstance(value, origin) and not isinstance(value, type)


def _in_words(kind: Any) -> str:
    origin = get_origin(kind) or kind
    if origin is Literal:
        return " or ".join(repr(name) for name in get_args(kind))
    if origin is type and get_args(kind):
        return f"a subclass of {getattr(get_args(kind)[0], '__name__', get_args(kind)[0])}"
    return _WORDS.get(origin) or f"a {getattr(origin, '__name__', origin)}"
