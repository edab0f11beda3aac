"""How schedules, parts and adaptive batch sizes are written in a YAML file or on the command line."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, get_origin

from stable_baselines3.common.utils import LinearSchedule

from sbbatch.arguments import Argument
from sbbatch.batch import ABS, BatchSizeSchedule, GradientNoiseScale, ReversedABS, Yoked
from sbbatch.batch.callback import BatchSizeCallback
from sbbatch.batch.schedule import Linear, Piecewise
from sbbatch.components.augmentation import AUGMENTATIONS
from sbbatch.components.bootstrap import BOOTSTRAPS
from sbbatch.errors import InvalidType, InvalidValue, UserError, check_keywords, did_you_mean
from sbbatch.networks.auxiliary import AUXILIARIES
from sbbatch.networks.heads import HEADS
from sbbatch.networks.impala import ImpalaCNN
from sbbatch.networks.initializers import INITIALIZERS
from sbbatch.networks.multi_skip import MultiSkipCNN
from sbbatch.networks.torsos import DataEfficientCNN, MinAtarCNN, NatureCNN
from sbbatch.settings.reader import ACTIVATIONS, read_call, read_literal


def _batch_schedule(first: Any, last: Any = None) -> BatchSizeSchedule:
    """``schedule(8, 128)`` goes from one size to the other, ``schedule({0: 8, 0.5: 32})`` in jumps, as text too."""
    if isinstance(first, str) and last is None:
        return BatchSizeSchedule(first)
    if isinstance(first, dict) and last is None:
        return BatchSizeSchedule.piecewise(first)
    if last is None:
        raise InvalidValue(f"got one size {first!r}, expected two as in schedule(8, 128)")
    return BatchSizeSchedule.linear(first, last)


# Keys whose value has a name in text: of a class or function, ...
_CLASSES: dict[str, Mapping[str, Any]] = {
    "head": HEADS,
    "initializer": INITIALIZERS,
    "features_extractor_class": {
        torso.__name__: torso for torso in (NatureCNN, ImpalaCNN, MinAtarCNN, MultiSkipCNN, DataEfficientCNN)
    },
    "activation_fn": ACTIVATIONS,
}
# ... or of an object, which is made with the arguments behind its name.
_OBJECTS: dict[str, Mapping[str, Callable[..., Any]]] = {
    "bootstrap": BOOTSTRAPS,
    "augmentation": AUGMENTATIONS,
    "auxiliary": AUXILIARIES,
    "batch_size_callback": {
        "abs": ABS,
        "noise_scale": GradientNoiseScale,
        "reversed_abs": ReversedABS,
        "schedule": _batch_schedule,
        "yoked": Yoked,
    },
}


def from_text(where: str, value: Any, argument: Argument) -> Any:
    """
    :param where: the beginning of every message
    :param value: what a file or the command line says; text may stand for something else, also inside a mapping
    :param argument: the argument it is meant for
    :return: what the text stands for, not yet checked
    """
    kinds, key = {get_origin(kind) or kind for kind in argument.kinds}, argument.name
    if isinstance(value, str) and str not in kinds:
        if key in _CLASSES or key in _OBJECTS:
            return read_object(key, value, where)
        if dict in kinds or (tuple in kinds and value.strip().startswith(("(", "["))):
            value = read_literal(value, where)
        elif argument.schedules:
            return read_schedule(where, value)
    if isinstance(value, list) and tuple in kinds and list not in kinds:
        return tuple(value)
    return _with_classes(where, value) if isinstance(value, dict) else value


def _with_classes(where: str, values: dict[Any, Any]) -> dict[Any, Any]:
    """``policy_kwargs`` in which classes are named by text."""
    read = dict(values)
    for key, value in values.items():
        if isinstance(value, dict):
            read[key] = _with_classes(where, value)
        elif key in _CLASSES and isinstance(value, str):
            read[key] = read_object(key, value, where)
    return read


def read_object(key: str, text: str, where: str) -> Any:
    """
    Read the name of a class, or of an object with its arguments.

    :param key: the argument it is for, e.g. ``"batch_size_callback"``
    :param text: e.g. ``"abs(8, 64, low=0.05)"``, ``"munchausen(alpha=0.9)"``, ``"double"`` or ``"nn.ReLU"``
    :param where: the beginning of every message
    """
    name, values, named = (text, [], {}) if key in _CLASSES else read_call(text, where)
    known = _CLASSES.get(key) or _OBJECTS[key]
    if name not in known:
        raise InvalidValue(f"{where}: unknown {key} '{name}'{did_you_mean(name, known)}")
    if key in _CLASSES:
        return known[name]
    make = known[name]
    try:
        check_keywords(name, named, make)
        return make(*values, **named)
    except UserError as error:
        raise type(error)(f"{where}: {error}") from None
    except TypeError as error:  # e.g. too many positional arguments
        raise InvalidValue(f"{where}: {error}") from None


def plain(value: Any) -> Any:
    """A value as a YAML file would have it: tuples as lists, classes and objects as :func:`read_object` reads them."""
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
    """Read ``lin_2.5e-4`` (falls linearly to 0), ``lin_0.4_1.0`` (from one to the other) or ``const_2.5e-4``."""
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
