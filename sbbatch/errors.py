"""Mistakes of the user, told in one sentence.

Every check in sbbatch raises one of the classes below, so that Python users see a plain ``ValueError`` or
``TypeError`` and the command line can print the same sentence and exit with code 2, without a traceback. Any other
exception is a bug of ours and keeps its traceback.
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
    """
    The tail of an error message for an unknown name.

    :param name: what was given
    :param known: the valid names
    :return: ``"; did you mean 'x'?"``, or the valid names when none is near, or the least far of too many
    """
    options = {option.lower(): option for option in known}
    if not options:
        return "; there are none"
    near = difflib.get_close_matches(name.lower(), options, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{options[near[0]]}'?"
    if len(options) <= _FEW:
        return f"; known: {', '.join(sorted(options.values()))}"
    nearest = difflib.get_close_matches(name.lower(), options, n=3, cutoff=0.0)
    return f"; the nearest of {len(options)} known: {', '.join(options[option] for option in nearest)}"


def describe(value: object) -> str:
    """
    A value of the wrong type in a few words; the text of an array or an optimizer runs over several lines.

    :param value: anything
    """
    if isinstance(value, type):
        return f"class {value.__name__}"
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def describe_space(space: object) -> str:
    """
    A Gymnasium space in a few words; its own text lists every bound and runs over several lines.

    :param space: any space
    """
    shape, dtype = getattr(space, "shape", None), getattr(space, "dtype", None)
    if type(space).__name__ == "Box":
        return f"Box{shape} of {dtype}"
    if type(space).__name__ == "Dict":
        parts = [f"{key}: {describe_space(part)}" for key, part in space.spaces.items()]  # type: ignore[attr-defined]
        return f"Dict({', '.join(parts)})"
    return " ".join(str(space).split())


def reason_of(error: Exception) -> str:
    """
    Somebody else's error in one line.

    :param error: whatever it is
    """
    return " ".join(f"{type(error).__name__}: {error}".split())


@contextmanager
def restored(what: str, remedy: str) -> Iterator[None]:
    """
    Around the taking over of a state that was saved; somebody may have edited the file.

    :param what: whose state it is
    :param remedy: how to go on without it
    :raises InvalidValue: it cannot be taken over
    """
    try:
        yield
    except Exception as error:  # a wrong state may lead to anything
        raise InvalidValue(f"{what}: the saved state cannot be taken over ({reason_of(error)}); {remedy}") from error


def check_int(name: str, value: object, low: int | None, high: int | None = None, hint: str = "") -> int:
    """
    Return ``value`` as an int, or say why it is not one between ``low`` and ``high``.

    :param name: the argument's name, as the user writes it
    :param value: what was given; NumPy integers are accepted, bools and floats are not
    :param low: smallest allowed value (``None``: no limit)
    :param high: largest allowed value (likewise)
    :param hint: how to mend it, appended to the message
    :raises InvalidType: not an integer
    :raises InvalidValue: out of range
    """
    low = -(2**63) if low is None else low
    expected = f"an int >= {low}" if high is None else f"an int between {low} and {high}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        whole = isinstance(value, float) and math.isfinite(value) and value == int(value) and value >= low
        tail = f"; did you mean {int(value)}?" if whole else ""  # type: ignore[call-overload]
        raise InvalidType(f"{name}: got {describe(value)}, expected {expected}{tail}{hint}")
    number = int(value)
    if number < low or (high is not None and number > high):
        raise InvalidValue(f"{name}: got {number}, expected {expected}{hint}")
    return number


def check_number(
    name: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
) -> float:
    """
    Return ``value`` as a float, or say why it is not a finite number in the allowed interval.

    :param name: the argument's name, as the user writes it
    :param value: what was given; bools and strings are not numbers
    :param low: lower end of the interval
    :param high: upper end of the interval, included
    :param open_low: whether ``low`` itself is excluded
    :raises InvalidType: not a number
    :raises InvalidValue: NaN, infinite or outside the interval
    """
    expected = "a finite number"
    if math.isfinite(low) or math.isfinite(high):
        expected += f" in {'(' if open_low else '['}{low:g}, {high:g}]"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidType(f"{name}: got {describe(value)}, expected {expected}")
    number = float(value)
    inside = low < number <= high if open_low else low <= number <= high
    if not (math.isfinite(number) and inside):
        raise InvalidValue(f"{name}: got {value!r}, expected {expected}")
    return number


def check_bool(name: str, value: object) -> None:
    """
    :param name: the argument's name, as the user writes it
    :param value: what was given
    :raises InvalidType: neither True nor False
    """
    if not isinstance(value, bool):
        raise InvalidType(f"{name}: got {describe(value)}, expected True or False")


def check_schedule(name: str, schedule: object, low: float, high: float) -> list[float]:
    """
    Try a schedule at the beginning, in the middle and at the end, before a run finds out.

    :param name: the argument's name, as the user writes it
    :param schedule: a number, or a function of the progress remaining, which falls from 1 to 0
    :param low: lower end of the interval of its values
    :param high: upper end, included
    :return: its values
    :raises InvalidValue: it fails, or gives a value outside the interval
    :raises InvalidType: it gives something else than a number
    """
    if not callable(schedule):
        return [check_number(name, schedule, low, high)]
    values = []
    for progress in (1.0, 0.5, 0.0):
        where = f"{name}: at the progress remaining {progress:g}"
        try:
            value = schedule(progress)
            value = value.item() if hasattr(value, "item") else value  # arrays and tensors of one number
        except Exception as error:  # the function is the user's, and so is whatever it raises
            raise InvalidValue(f"{where} the schedule fails ({reason_of(error)})") from error
        values.append(check_number(where, value, low, high))
    return values


def check_names(where: str, given: Iterable[Any], known: Iterable[str]) -> None:
    """
    Refuse the first unknown key, with the nearest valid one.

    :param where: the beginning of the message
    :param given: the keys the user wrote
    :param known: the valid keys
    :raises InvalidType: an unknown key
    """
    known = set(known)
    for key in given:
        if key not in known:
            raise InvalidType(f"{where}: unknown key '{key}'{did_you_mean(str(key), known)}")


def check_keywords(where: str, given: object, function: Callable[..., Any] | None, taken: Collection[str] = ()) -> None:
    """
    Refuse keyword arguments that a function or class cannot be called with.

    :param where: the argument that holds them, as the user writes it
    :param given: what should be a mapping from names to values
    :param function: what will be called with them (``None``: any other names will do)
    :param taken: those that the agent passes itself
    :raises InvalidType: no mapping, an unknown name, or one that the agent passes
    """
    if not isinstance(given, Mapping):
        raise InvalidType(f"{where}: got {describe(given)}, expected a dictionary of keyword arguments")
    for name in given:
        if name in taken:
            raise InvalidType(f"{where}: '{name}' is set by the agent; give it to the agent itself, or leave it out")
        if not isinstance(name, str):
            raise InvalidType(f"{where}: got {describe(name)} as a key, expected the name of an argument")
    parameters = {} if function is None else inspect.signature(function).parameters
    if function is not None and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        check_names(where, given, set(parameters) - set(taken))


def built(where: str, cls: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """
    Make an object of somebody else's class from values the user gave; what that class refuses is the user's mistake.

    :param where: the argument that holds the values, as the user writes it
    :param cls: the class; ours say themselves what is wrong, and any other error of theirs is a bug
    :param args: what it is called with
    :param kwargs: likewise
    :raises InvalidValue: the class refused its arguments
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
