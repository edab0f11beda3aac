"""Mistakes of the user, told in one sentence.

Every check in sbbatch raises one of the classes below, so that Python users see a plain ``ValueError`` or
``TypeError`` and the command line can print the same sentence and exit with code 2, without a traceback. Any other
exception is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real

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
    near = difflib.get_close_matches(name.lower(), options, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{options[near[0]]}'?"
    if len(options) <= _FEW:
        return f"; known: {', '.join(sorted(options.values()))}"
    nearest = difflib.get_close_matches(name.lower(), options, n=3, cutoff=0.0)
    return f"; the nearest of {len(options)} known: {', '.join(options[option] for option in nearest)}"


def describe_space(space: object) -> str:
    """
    A Gymnasium space in a few words; its own text lists every bound and runs over several lines.

    :param space: any space
    """
    shape, dtype = getattr(space, "shape", None), getattr(space, "dtype", None)
    if type(space).__name__ == "Box":
        return f"Box{shape} of {dtype}"
    return " ".join(str(space).split())


def check_int(name: str, value: object, low: int, high: int | None = None, hint: str = "") -> int:
    """
    Return ``value`` as an int, or say why it is not one between ``low`` and ``high``.

    :param name: the argument's name, as the user writes it
    :param value: what was given; NumPy integers are accepted, bools and floats are not
    :param low: smallest allowed value
    :param high: largest allowed value (``None``: no limit)
    :param hint: how to mend it, appended to the message
    :raises InvalidType: not an integer
    :raises InvalidValue: out of range
    """
    expected = f"an int >= {low}" if high is None else f"an int between {low} and {high}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        whole = isinstance(value, float) and math.isfinite(value) and value == int(value) and value >= low
        tail = f"; did you mean {int(value)}?" if whole else ""  # type: ignore[call-overload]
        raise InvalidType(f"{name}: got {type(value).__name__} {value!r}, expected {expected}{tail}{hint}")
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
    expected = f"a finite number in {'(' if open_low else '['}{low:g}, {high:g}]"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidType(f"{name}: got {type(value).__name__} {value!r}, expected {expected}")
    number = float(value)
    inside = low < number <= high if open_low else low <= number <= high
    if not (math.isfinite(number) and inside):
        raise InvalidValue(f"{name}: got {value!r}, expected {expected}")
    return number


class NumericalError(FloatingPointError):
    """A reward, observation, loss or priority became NaN or infinite; the run must stop."""
