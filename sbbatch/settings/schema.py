"""Which arguments a class takes and of which type: read from its constructor, not from a list kept by hand."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_origin

from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import LinearSchedule

from sbbatch.arguments import declared
from sbbatch.batch import ABS, BatchSizeSchedule, GradientNoiseScale
from sbbatch.components.bootstrap import BOOTSTRAPS
from sbbatch.errors import InvalidType, InvalidValue, UserError, check_keywords, describe, did_you_mean
from sbbatch.networks.heads import HEADS
from sbbatch.networks.impala import ImpalaCNN
from sbbatch.networks.initializers import INITIALIZERS
from sbbatch.networks.multi_skip import MultiSkipCNN
from sbbatch.networks.torsos import MinAtarCNN, NatureCNN
from sbbatch.settings.reader import ACTIVATIONS, read_call, read_literal

_WORDS = {
    "int": "an int",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "None": "null",
    "dict": "a mapping",
    "tuple": "a list",
    "Schedule": "a schedule such as lin_2.5e-4",
}
_PLAIN = (type(None), bool, int, float, str, list, tuple, dict)
# Keys whose value is one of our parts; in text they have names.
_PARTS: dict[str, dict[str, Any]] = {
    "head": dict(HEADS),
    "initializer": dict(INITIALIZERS),
    "features_extractor_class": {torso.__name__: torso for torso in (NatureCNN, ImpalaCNN, MinAtarCNN, MultiSkipCNN)},
    "activation_fn": dict(ACTIVATIONS),
}


def _schedule(first: Any, last: Any = None) -> BatchSizeSchedule:
    """``schedule(8, 128)`` goes from one size to the other, ``schedule({0: 8, 0.5: 32})`` in jumps."""
    if isinstance(first, dict) and last is None:
        return BatchSizeSchedule.piecewise(first)
    if last is None:
        raise InvalidValue(f"got one size {first!r}, expected two as in schedule(8, 128)")
    return BatchSizeSchedule.linear(first, last)


# Keys whose value is an object of ours; in text it is a name, with or without arguments.
_CALLS: dict[str, dict[str, Callable[..., Any]]] = {
    "bootstrap": dict(BOOTSTRAPS),
    "batch_size_callback": {"abs": ABS, "noise_scale": GradientNoiseScale, "schedule": _schedule},
}


@dataclass(frozen=True)
class Argument:
    """
    One keyword argument of a constructor.

    :param name: its name
    :param default: its default value (``inspect.Parameter.empty``: none)
    :param kinds: the alternatives of its annotation, e.g. ``("float", "Schedule")``; empty when it has none
    """

    name: str
    default: Any
    kinds: tuple[str, ...]


def keyword_arguments(cls: type) -> dict[str, Argument]:
    """
    All keyword arguments a class accepts.

    :param cls: an algorithm, whose constructor names them all
    """
    return {name: Argument(name, one.default, tuple(map(_kind_name, one.kinds))) for name, one in declared(cls).items()}


def convert(where: str, value: Any, argument: Argument) -> Any:
    """
    Turn a value of a YAML file or of the command line into what the constructor takes.

    :param where: file, section and key, the beginning of every message
    :param value: what was read
    :param argument: the argument it is meant for
    :raises InvalidType: the value has none of the annotated types
    :raises InvalidValue: an unknown schedule or part, or a number that is not finite
    """
    kinds = argument.kinds
    names: dict[str, dict[str, Any]] = {"head": _PARTS["head"], **_CALLS}
    if isinstance(value, str) and "str" not in kinds:
        if argument.name in _CALLS:
            value = _read_made(where, argument.name, value)
        elif argument.name in _PARTS:
            value = _named_part(where, argument.name, value)
        elif "dict" in kinds or ("tuple" in kinds and value.strip().startswith(("(", "["))):
            value = read_literal(value, where)
        elif "Schedule" in kinds:
            value = read_schedule(where, value)
    if isinstance(value, list) and "tuple" in kinds and "list" not in kinds:
        value = tuple(value)
    if isinstance(value, dict):
        value = _with_parts(where, value)
    if argument.name in names and isinstance(value, _PLAIN) and not (value is None and "None" in kinds):
        raise InvalidType(f"{where}: got {describe(value)}, expected a name; known: {', '.join(names[argument.name])}")
    _check_kind(where, value, kinds)
    return value


def read_schedule(where: str, text: str) -> float | Callable[[float], float]:
    """
    Read ``lin_2.5e-4`` (falls linearly to 0 over training), ``lin_0.4_1.0`` (goes from one to the other) or
    ``const_2.5e-4``.

    :param where: the beginning of the message
    :param text: what was given
    """
    name, underscore, rest = text.partition("_")
    if underscore and name not in ("lin", "const"):
        raise InvalidValue(f"{where}: unknown schedule '{name}' in '{text}'; known: lin_, const_")
    try:
        numbers = [float(number) for number in (rest if underscore else text).split("_")]
    except ValueError:
        numbers = []
    if len(numbers) not in ((1, 2) if name == "lin" else (1,)) or not all(map(math.isfinite, numbers)):
        raise InvalidType(f"{where}: got str '{text}', expected a number or a schedule such as lin_2.5e-4")
    return LinearSchedule(numbers[0], [*numbers, 0.0][1], 1.0) if name == "lin" else numbers[0]


def _kind_name(kind: Any) -> str:
    """``tuple[int, str]`` -> ``"tuple"``."""
    if kind is type(None) or kind == Schedule:
        return "None" if kind is type(None) else "Schedule"
    origin = get_origin(kind) or kind
    return "str" if origin is Literal else getattr(origin, "__name__", str(origin))


def _read_made(where: str, key: str, text: str) -> Any:
    """``double``, or with arguments ``munchausen(alpha=0.9, temperature=0.03)`` or ``abs(8, 64, check_every=5)``."""
    name, values, named = read_call(text, where)
    known = _CALLS[key]
    if name not in known:
        raise InvalidValue(f"{where}: unknown {key} '{name}'{did_you_mean(name, known)}")
    check_keywords(where, named, known[name])
    try:
        inspect.signature(known[name]).bind(*values, **named)
    except TypeError as error:  # e.g. too many positional arguments
        raise InvalidValue(f"{where}: {name}: {error}") from None
    try:
        return known[name](*values, **named)
    except UserError as error:
        raise type(error)(f"{where}: {error}") from None


def _named_part(where: str, key: str, name: str) -> Any:
    if name not in _PARTS[key]:
        raise InvalidValue(f"{where}: unknown {key} '{name}'{did_you_mean(name, _PARTS[key])}")
    return _PARTS[key][name]


def _with_parts(where: str, values: dict[Any, Any]) -> dict[Any, Any]:
    """``policy_kwargs`` in which parts are named by text."""
    converted = {}
    for key, value in values.items():
        if isinstance(value, dict):
            value = _with_parts(where, value)
        elif key in _PARTS and isinstance(value, str):
            value = _named_part(where, key, value)
        converted[key] = value
    return converted


def _check_kind(where: str, value: Any, kinds: tuple[str, ...]) -> None:
    if not kinds or any(_matches(value, kind) for kind in kinds):
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidValue(f"{where}: got {value}, expected a finite number")
        return
    words = [_WORDS[kind] for kind in kinds if kind in _WORDS and kind != "None"]
    expected = " or ".join(words) or "nothing: it cannot be given as text"
    raise InvalidType(f"{where}: got {type(value).__name__} {value!r}, expected {expected}{_whole(value, kinds)}")


def _matches(value: Any, kind: str) -> bool:
    """Whether a value is what one alternative of an annotation means; classes of ours cannot be written as text."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    tests = {
        "int": number and isinstance(value, int),
        "float": number,
        "bool": isinstance(value, bool),
        "str": isinstance(value, str),
        "None": value is None,
        "dict": isinstance(value, dict),
        "tuple": isinstance(value, tuple),
        "Schedule": callable(value) and not isinstance(value, type),
        "type": isinstance(value, type),
    }
    return tests.get(kind, kind in ("Any", "object") or not isinstance(value, _PLAIN))


def _whole(value: Any, kinds: tuple[str, ...]) -> str:
    """A float where an int is wanted is mostly ``1e4``: say how to write it."""
    whole = isinstance(value, float) and math.isfinite(value) and value == int(value)
    return f"; did you mean {int(value)}?" if whole and "int" in kinds else ""
