"""
Mistakes of the user, told in one sentence: Python users see a ``ValueError`` or ``TypeError``, and the command line
prints the same sentence and exits with code 2. Any other exception is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, TypeVar

T = TypeVar("T")

_FEW = 10  # names that a reader takes in at a glance


class UserError(Exception):
    """Something the user gave is wrong; the message is one complete sentence."""


class InvalidValue(UserError, ValueError):
    """A value of the right type that is not allowed."""


class InvalidType(UserError, TypeError):
    """A value of the wrong type, or an argument that does not exist."""


class UnwritableFile(UserError, OSError):
    """A file that could not be written, or not whole."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The tail of a message: ``"; did you mean 'x'?"``, the valid names if none is near, or the nearest of too many."""
    options = {option.lower(): option for option in known if not option.startswith("_")}
    if not options:
        return "; there are none"
    for near in difflib.get_close_matches(name.lower(), options, n=1, cutoff=0.6):
        return f"; did you mean '{options[near]}'?"
    if len(options) <= _FEW:
        return f"; known: {', '.join(sorted(options.values()))}"
    nearest = difflib.get_close_matches(name.lower(), options, n=3, cutoff=0.0)
    return f"; the nearest of {len(options)} known: {', '.join(options[option] for option in nearest)}"


def describe(value: object) -> str:
    """A value of the wrong type in a few words; the text of an array runs over several lines."""
    if isinstance(value, type):
        return f"class {value.__name__}"
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def describe_space(space: object) -> str:
    """A Gymnasium space in a few words; its own text lists every bound."""
    shape, dtype = getattr(space, "shape", None), getattr(space, "dtype", None)
    if type(space).__name__ == "Box":
        return f"Box{shape} of {dtype}"
    if type(space).__name__ == "Dict":
        parts = [f"{key}: {describe_space(part)}" for key, part in space.spaces.items()]  # type: ignore[attr-defined]
        return f"Dict({', '.join(parts)})"
    return " ".join(str(space).split())


def reason_of(error: Exception) -> str:
    """Somebody else's error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@contextmanager
def restored(what: str, remedy: str) -> Iterator[None]:
    """Around the restoring of a saved state of ``what``; ``remedy`` says how to go on without it."""
    try:
        yield
    except Exception as error:  # a wrong state may lead to anything
        raise InvalidValue(f"{what}: the saved state cannot be taken over ({reason_of(error)}); {remedy}") from error


_TOO_LARGE = 2**63  # for NumPy and PyTorch


def check_int(name: str, value: object, low: float = -math.inf, high: float = math.inf, hint: str = "") -> int:
    """
    The value as an int.

    :param name: the argument's name, as the user writes it
    :param value: what was given; NumPy integers are accepted, bools and floats are not
    :param hint: how to mend it, appended to the message
    """
    expected = f"an int between {low} and {high}" if high < math.inf else f"an int >= {low}"
    if low == -math.inf:
        expected = "an int"
    if isinstance(value, bool) or not isinstance(value, Integral):
        whole = isinstance(value, float) and value.is_integer() and value >= low
        tail = f"; did you mean {int(value)}?" if whole else ""  # type: ignore[call-overload]
        raise InvalidType(f"{name}: got {describe(value)}, expected {expected}{tail}{hint}")
    number = int(value)
    if abs(number) >= _TOO_LARGE:
        raise InvalidValue(f"{name}: got {_shortened(str(number))}, expected {expected} and below 2**63")
    if not low <= number <= high:
        raise InvalidValue(f"{name}: got {_shortened(str(number))}, expected {expected}{hint}")
    return number


def check_number(
    name: str, value: object, low: float = -math.inf, high: float = math.inf, open_low: bool = False
) -> float:
    """
    The value as a float.

    :param name: the argument's name, as the user writes it
    :param value: what was given; bools, strings, NaN and infinity are refused
    :param open_low: whether ``low`` itself is excluded
    """
    expected = "a finite number"
    if math.isfinite(low) or math.isfinite(high):
        expected += f" in {'(' if open_low else '['}{low:g}, {high:g}]"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidType(f"{name}: got {describe(value)}, expected {expected}")
    try:
        number = float(value)
    except OverflowError:  # an int of more than 308 digits
        number = math.inf
    if not math.isfinite(number) or not low <= number <= high or (open_low and number == low):
        raise InvalidValue(f"{name}: got {_shortened(repr(value))}, expected {expected}")
    return number


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_schedule(name: str, schedule: object, low: float, high: float) -> list[float]:
    """
    The values of a schedule at the beginning, in the middle and at the end, before a run finds out.

    :param name: the argument's name, as the user writes it
    :param schedule: a number, or a function of the progress remaining, which falls from 1 to 0
    """
    if not callable(schedule):
        return [check_number(name, schedule, low, high)]
    values = []
    for progress in (1.0, 0.5, 0.0):
        where = f"{name}: at the progress remaining {progress:g}"
        try:
            value = schedule(progress)
            value = value.item() if getattr(value, "ndim", None) == 0 else value  # numbers of NumPy and PyTorch
        except Exception as error:  # the function is the user's, and so is whatever it raises
            raise InvalidValue(f"{where} the schedule fails ({reason_of(error)})") from error
        values.append(check_number(where, value, low, high))
    return values


def check_names(where: str, given: Iterable[Any], known: Iterable[str]) -> None:
    """Refuse the first unknown name, with the nearest valid one; ``where`` begins the message."""
    known = set(known)
    for key in given:
        if key not in known:
            raise InvalidType(f"{where}: unknown key '{key}'{did_you_mean(str(key), known)}")


def check_keywords(where: str, given: object, function: Callable[..., Any] | None, taken: Collection[str] = ()) -> None:
    """
    Refuse keyword arguments that a function or class cannot be called with.

    :param where: the argument that holds them, as the user writes it
    :param given: what should be a mapping from names to values
    :param function: what will be called with them (``None``: any names will do)
    :param taken: those that the agent passes itself
    """
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InvalidType(f"{where}: got {describe(given)}, expected a dictionary of keyword arguments")
    for name in given:
        if name in taken:
            raise InvalidType(f"{where}: '{name}' is set by the agent; give it to the agent itself, or leave it out")
    parameters = {} if function is None else inspect.signature(function).parameters
    if function is not None and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        check_names(where, given, set(parameters) - set(taken))


def built(where: str, cls: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """
    Make an object of a class that is not ours from values the user gave; what it refuses is the user's mistake.

    :param where: the argument that holds the values, as the user writes it
    :param cls: the class; ours say themselves what is wrong
    """
    try:
        return cls(*args, **kwargs)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, UserError) or cls.__module__.startswith("sbbatch."):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidValue(f"{where}: {cls.__name__} cannot be made ({reason})") from error


class NumericalError(FloatingPointError):
    """A reward, observation, loss or priority became NaN or infinite; the run must stop."""
