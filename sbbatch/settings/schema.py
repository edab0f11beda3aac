"""From the text of a YAML file or the command line to what a constructor takes, and back.

What an argument may be is declared where it is taken (:mod:`sbbatch.arguments`). This module only knows how schedules,
parts and adaptive batch sizes are written.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, get_origin

from stable_baselines3.common.utils import LinearSchedule

from sbbatch.arguments import Argument
from sbbatch.batch import ABS, BatchSizeSchedule, GradientNoiseScale
from sbbatch.batch.callback import BatchSizeCallback
from sbbatch.batch.schedule import Linear, Piecewise
from sbbatch.components.bootstrap import BOOTSTRAPS
from sbbatch.errors import InvalidType, InvalidValue, UserError, check_keywords, describe, did_you_mean
from sbbatch.networks.heads import HEADS
from sbbatch.networks.impala import ImpalaCNN
from sbbatch.networks.initializers import INITIALIZERS
from sbbatch.networks.multi_skip import MultiSkipCNN
from sbbatch.networks.torsos import MinAtarCNN, NatureCNN
from sbbatch.settings.reader import ACTIVATIONS, read_call, read_literal


def _batch_schedule(first: Any, last: Any = None) -> BatchSizeSchedule:
    """``schedule(8, 128)`` goes from one size to the other, ``schedule({0: 8, 0.5: 32})`` in jumps."""
    if isinstance(first, dict) and last is None:
        return BatchSizeSchedule.piecewise(first)
    if last is None:
        raise InvalidValue(f"got one size {first!r}, expected two as in schedule(8, 128)")
    return BatchSizeSchedule.linear(first, last)


# Keys whose value has a name in text: of a class or function, ...
_CLASSES: dict[str, Mapping[str, Any]] = {
    "head": HEADS,
    "initializer": INITIALIZERS,
    "features_extractor_class": {torso.__name__: torso for torso in (NatureCNN, ImpalaCNN, MinAtarCNN, MultiSkipCNN)},
    "activation_fn": ACTIVATIONS,
}
# ... or of an object, which is made with the arguments behind its name.
_OBJECTS: dict[str, Mapping[str, Callable[..., Any]]] = {
    "bootstrap": BOOTSTRAPS,
    "batch_size_callback": {"abs": ABS, "noise_scale": GradientNoiseScale, "schedule": _batch_schedule},
}


def convert(where: str, value: Any, argument: Argument) -> Any:
    """
    Turn a value of a YAML file or of the command line into what the constructor takes.

    :param where: file, section and key, the beginning of every message
    :param value: what was read, or the object itself
    :param argument: the argument it is meant for
    :raises UserError: an unknown name, or a value that the argument's declaration refuses
    """
    kinds = {get_origin(kind) or kind for kind in argument.kinds}
    key = argument.name
    if isinstance(value, str) and str not in kinds:
        if key in _CLASSES or key in _OBJECTS:
            value = read_object(key, value, where)
        elif dict in kinds or (tuple in kinds and value.strip().startswith(("(", "["))):
            value = read_literal(value, where)
        elif argument.schedules:
            value = read_schedule(where, value)
    elif isinstance(value, (bool, int, float, list)) and (key in _CLASSES or key in _OBJECTS):
        names = ", ".join({**_CLASSES, **_OBJECTS}[key])
        raise InvalidType(f"{where}: got {describe(value)}, expected a name; known: {names}")
    if isinstance(value, list) and tuple in kinds and list not in kinds:
        value = tuple(value)
    if isinstance(value, dict):
        value = _with_classes(where, value)
    argument.check(value, where)
    return value  # as it was given: some checks return what the constructor makes of it


def _with_classes(where: str, values: dict[Any, Any]) -> dict[Any, Any]:
    """``policy_kwargs`` in which classes are named by text."""

    def read(key: Any, value: Any) -> Any:
        if isinstance(value, dict):
            return _with_classes(where, value)
        return read_object(key, value, where) if key in _CLASSES and isinstance(value, str) else value

    return {key: read(key, value) for key, value in values.items()}


def read_object(key: str, text: str, where: str) -> Any:
    """
    Read the name of a class, or of an object with its arguments.

    :param key: the argument it is for, e.g. ``"batch_size_callback"``
    :param text: e.g. ``"abs(8, 64, low=0.05)"``, ``"munchausen(alpha=0.9)"``, ``"double"`` or ``"nn.ReLU"``
    :param where: the beginning of every message
    :raises UserError: an unknown name, or arguments that it does not take
    """
    if key in _CLASSES:
        return _named(key, text, _CLASSES[key], where)
    name, values, named = read_call(text, where)
    make = _named(key, name, _OBJECTS[key], where)
    try:
        check_keywords(name, named, make)
        return make(*values, **named)
    except UserError as error:
        raise type(error)(f"{where}: {error}") from None
    except TypeError as error:  # e.g. too many positional arguments
        raise InvalidValue(f"{where}: {error}") from None


def _named(key: str, name: str, known: Mapping[str, Any], where: str) -> Any:
    if name not in known:
        raise InvalidValue(f"{where}: unknown {key} '{name}'{did_you_mean(name, known)}")
    return known[name]


def plain(value: Any) -> Any:
    """
    A value as a YAML file would have it: tuples as lists, and classes and objects as the text that :func:`read_object`
    reads.

    :param value: a setting or an argument, e.g. ``ABS(8, 64, low=0.05)`` or ``torch.nn.ReLU``
    """
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else _text_of(value)


def _text_of(value: Any) -> str:
    names = {made: name for table in (*_CLASSES.values(), *_OBJECTS.values()) for name, made in table.items()}
    if isinstance(value, type) or inspect.isfunction(value):
        return names.get(value, value.__name__)
    if isinstance(value, BatchSizeSchedule) and isinstance(value.schedule, Piecewise):
        return f"schedule({value.schedule.values})"
    if isinstance(value, BatchSizeSchedule) and isinstance(value.schedule, Linear):
        return f"schedule({value.schedule.first}, {value.schedule.last})"
    if type(value) not in names:
        return str(value)
    given = value.config() if isinstance(value, BatchSizeCallback) else vars(value)
    words: list[str] = []
    for place, (name, parameter) in enumerate(inspect.signature(type(value)).parameters.items()):
        if given.get(name, parameter.default) != parameter.default:
            words.append(repr(given[name]) if place == len(words) else f"{name}={given[name]!r}")
    return names[type(value)] + (f"({', '.join(words)})" if words else "")


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
