"""What a study searches: axes read from YAML, values suggested by Optuna, and settings made of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sbbatch.errors import (
    InvalidType,
    InvalidValue,
    check_bool,
    check_int,
    check_names,
    check_number,
    describe,
    did_you_mean,
)
from sbbatch.settings.reader import read_literal, read_yaml
from sbbatch.settings.resolution import hyperparams_folder

if TYPE_CHECKING:
    from optuna import Trial

SPACES_FILE = "hyperparams/spaces.yml"
ABS_SECTION = "abs"
_RANGE_KEYS = {"low", "high", "log", "powers_of"}
_MEASUREMENTS = 60  # of ABS in one trial; nothing moves before the tenth


@dataclass(frozen=True)
class Range:
    """
    Numbers between two others.

    :param key: argument of the agent; ``policy_kwargs.n_quantiles`` is one entry of a dictionary
    :param low: smallest value; an int if both ends are
    :param high: largest value
    :param log: whether orders of magnitude are equally likely
    """

    key: str
    low: float
    high: float
    log: bool = False
    scale: ClassVar[str] = "number"

    @property
    def name(self) -> str:
        """What Optuna calls it."""
        return self.key

    def suggest(self, trial: Trial) -> float:
        """
        :param trial: of Optuna
        """
        if isinstance(self.low, int):
            return trial.suggest_int(self.name, self.low, int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def value(self, stored: Any) -> Any:
        """
        :param stored: what Optuna keeps
        :return: what the agent gets
        """
        return stored

    def plain(self) -> dict[str, Any]:
        """As in a YAML file."""
        return {"low": self.low, "high": self.high, "log": self.log}

    def extremes(self) -> list[Any]:
        """Values to try before a study begins."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Powers:
    """
    Powers of a whole number, all equally likely. Optuna sees the exponents, so that its samplers know their order.

    :param key: argument of the agent
    :param base: e.g. 2
    :param first: smallest exponent
    :param last: largest exponent
    """

    key: str
    base: int
    first: int
    last: int
    scale: ClassVar[str] = "power"

    @property
    def name(self) -> str:
        """What Optuna calls it."""
        return f"log{self.base}_{self.key}"

    def suggest(self, trial: Trial) -> int:
        """
        :param trial: of Optuna
        """
        return self.value(trial.suggest_int(self.name, self.first, self.last))

    def value(self, stored: Any) -> int:
        """
        :param stored: the exponent
        :return: the power
        """
        return int(self.base ** int(stored))

    def plain(self) -> dict[str, Any]:
        """As in a YAML file."""
        return {"low": self.value(self.first), "high": self.value(self.last), "powers_of": self.base}

    def extremes(self) -> list[Any]:
        """Values to try before a study begins."""
        return [self.value(self.first), self.value(self.last)]


@dataclass(frozen=True)
class Choices:
    """
    One of several values without an order.

    :param key: argument of the agent
    :param values: at least two; what Optuna cannot store goes there as JSON
    """

    key: str
    values: tuple[Any, ...]
    scale: ClassVar[str] = "choice"

    @property
    def name(self) -> str:
        """What Optuna calls it."""
        return self.key

    @property
    def labels(self) -> list[Any]:
        """What Optuna keeps for each value."""
        plain = (type(None), bool, int, float, str)
        return [value if isinstance(value, plain) else json.dumps(value) for value in self.values]

    def suggest(self, trial: Trial) -> Any:
        """
        :param trial: of Optuna
        """
        return self.value(trial.suggest_categorical(self.name, self.labels))

    def value(self, stored: Any) -> Any:
        """
        :param stored: a label
        :return: its value
        """
        return self.values[self.labels.index(stored)]

    def plain(self) -> dict[str, Any]:
        """As in a YAML file."""
        return {"choices": list(self.values)}

    def extremes(self) -> list[Any]:
        """Values to try before a study begins."""
        return list(self.values)


Axis = Range | Powers | Choices


@dataclass(frozen=True)
class Space:
    """
    What a study searches.

    :param name: for people
    :param axes: what varies, the most telling first
    :param fixed: argument -> its only value
    """

    name: str
    axes: tuple[Axis, ...]
    fixed: dict[str, Any]

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """
        Values for a trial; one that is repeated keeps its own.

        :param trial: of Optuna
        """
        return {axis.key: axis.suggest(trial) for axis in self.axes}

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """
        What a trial searched, in the agent's words.

        :param params: as Optuna keeps them; a trial that was killed early may lack some
        """
        return {axis.key: axis.value(params[axis.name]) for axis in self.axes if axis.name in params}

    def settings(self, values: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
        """
        The settings that a trial changes, entries of dictionaries put into the whole dictionary.

        :param values: of the axes
        :param base: settings of the study
        """
        merged: dict[str, Any] = {}
        for key, value in {**self.fixed, **values}.items():
            argument, *path = key.split(".")
            if not path:
                merged[argument] = value
                continue
            whole = merged.get(argument, base.get(argument)) or {}
            whole = read_literal(whole, argument) if isinstance(whole, str) else whole
            merged[argument] = _with_entry(argument, whole, path, value)
        return merged

    def plain(self) -> dict[str, Any]:
        """As in a YAML file."""
        return {axis.key: axis.plain() for axis in self.axes} | {
            key: {"choices": [value]} for key, value in self.fixed.items()
        }


def _with_entry(where: str, whole: Any, path: list[str], value: Any) -> dict[str, Any]:
    if not isinstance(whole, Mapping):
        raise InvalidType(f"{where}: got {describe(whole)}, expected a mapping for {path[0]}")
    inner = _with_entry(f"{where}.{path[0]}", whole.get(path[0]) or {}, path[1:], value) if path[1:] else value
    return {**whole, path[0]: inner}


def read_space(name: str, algo: str) -> Space:
    """
    A packaged space by its name, or one of the user's.

    :param name: e.g. ``batch-lr-nstep``, or a YAML file
    :param algo: name of the algorithm
    :raises UserError: no such space, or it is not written as one
    """
    if name.endswith((".yml", ".yaml")):
        path = Path(name)
        return make_space(path.stem, read_yaml(path), str(path))
    sections = _sections()
    known = [section for section in sections if section != ABS_SECTION]
    if name not in known:
        raise InvalidValue(
            f"--space: unknown space '{name}'{did_you_mean(name, known)}, or a file such as my_space.yml"
        )
    if algo not in sections[name]:
        raise InvalidValue(f"--space: {SPACES_FILE} has no {name} for {algo}; write a file and give --space FILE.yml")
    return make_space(name, sections[name][algo], f"{SPACES_FILE} {name} {algo}")


def with_abs(space: Space, algo: str, knob: str, n_steps: float) -> Space:
    """
    The bounds of an adaptive batch size in the place of a fixed one.

    :param space: a packaged space
    :param algo: name of the algorithm
    :param knob: the argument that is adapted
    :param n_steps: agent steps of a trial; where the knob is the length of rollouts, those of one environment
    :raises InvalidValue: there are none for this algorithm
    """
    section = _sections()[ABS_SECTION]
    if algo not in section:
        raise InvalidValue(f"--abs: {SPACES_FILE} has no bounds for {algo}; leave --abs out")
    bounds = make_space(ABS_SECTION, section[algo], f"{SPACES_FILE} {ABS_SECTION} {algo}").axes
    timed = [_timed(axis, n_steps, knob == "n_steps") for axis in bounds if isinstance(axis, Choices)]
    kept = [axis for axis in space.axes if axis.key not in (knob, "batch_size")]
    return Space(f"{space.name}-abs", (*timed, *kept), space.fixed)


def _timed(axis: Choices, n_steps: float, rollouts: bool) -> Choices:
    """``abs(8, 64)`` -> ``abs(8, 64, check_every=166)``: the published interval is longer than a trial."""
    texts = []
    for text in axis.values:
        low, high = (int(bound) for bound in text.removeprefix("abs(").removesuffix(")").split(","))
        length = math.sqrt(low * high) if rollouts else 1.0
        texts.append(f"abs({low}, {high}, check_every={max(int(n_steps / length / _MEASUREMENTS), 1)})")
    return Choices(axis.key, tuple(texts))


def _sections() -> dict[str, Any]:
    return read_yaml(hyperparams_folder() / "spaces.yml", SPACES_FILE)


def make_space(name: str, content: Mapping[str, Any], where: str) -> Space:
    """
    Read a mapping from arguments to what they may be.

    :param name: for people
    :param content: e.g. ``{"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}``
    :param where: it comes from, for messages
    :raises UserError: it is not written as a space
    """
    axes: list[Axis] = []
    fixed = {}
    for key, written in content.items():
        axis = _read_axis(f"{where} {key}", key, written)
        if isinstance(axis, Choices) and len(axis.values) == 1:
            fixed[key] = axis.values[0]
        else:
            axes.append(axis)
    if not axes:
        raise InvalidValue(f"{where}: nothing varies, expected an argument with a range or several choices")
    return Space(name, tuple(axes), fixed)


def _read_axis(where: str, key: str, written: Any) -> Axis:
    if not isinstance(written, Mapping) or not ("choices" in written or {"low", "high"} <= set(written)):
        raise InvalidType(f"{where}: got {describe(written)}, expected {{low: 1, high: 10}} or {{choices: [1, 2]}}")
    if "choices" in written:
        check_names(where, written, {"choices"})
        return _read_choices(where, key, written["choices"])
    check_names(where, written, _RANGE_KEYS)
    return _read_powers(where, key, written) if "powers_of" in written else _read_range(where, key, written)


def _read_choices(where: str, key: str, choices: Any) -> Choices:
    if not isinstance(choices, list) or not choices:
        raise InvalidType(f"{where}: got choices {describe(choices)}, expected a list of values")
    axis = Choices(key, tuple(choices))
    if len({json.dumps(choice) for choice in choices}) < len(choices):
        raise InvalidValue(f"{where}: a choice is given twice")
    return axis


def _read_powers(where: str, key: str, written: Mapping[str, Any]) -> Powers:
    if "log" in written:
        raise InvalidValue(f"{where}: powers_of is logarithmic already; remove log")
    base = check_int(f"{where} powers_of", written["powers_of"], 2)
    exponents = []
    for end in ("low", "high"):
        value = check_int(f"{where} {end}", written[end], 1)
        exponent = round(math.log(value, base))
        if base**exponent != value:
            raise InvalidValue(f"{where} {end}: got {value}, expected a power of {base}")
        exponents.append(exponent)
    _check_order(where, written)
    return Powers(key, base, *exponents)


def _read_range(where: str, key: str, written: Mapping[str, Any]) -> Range:
    for end in ("low", "high"):
        check_number(f"{where} {end}", written[end])
    log = written.get("log", False)
    check_bool(f"{where} log", log)
    _check_order(where, written)
    if log and written["low"] <= 0:
        raise InvalidValue(f"{where} low: got {written['low']}, expected a number above 0, for log is true")
    whole = all(isinstance(written[end], int) for end in ("low", "high"))
    low, high = written["low"], written["high"]
    return Range(key, low if whole else float(low), high if whole else float(high), log)


def _check_order(where: str, written: Mapping[str, Any]) -> None:
    if not written["low"] < written["high"]:
        raise InvalidValue(f"{where}: got low {written['low']} and high {written['high']}, expected low < high")
