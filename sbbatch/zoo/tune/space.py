"""
What a study searches: for each argument of the agent an entry, as in a YAML file.

``{low: 1, high: 10}``, also with ``log: true``, is a range, of ints if both ends are; ``{low: 1, high: 512, powers_of:
2}`` are powers, of which Optuna sees the exponents, so that its samplers know their order; ``{choices: [...]}`` has no
order, and a single choice is a fixed value. The key ``policy_kwargs.n_quantiles`` is one entry of a dictionary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from sbbatch.arguments import Within, check_arguments
from sbbatch.errors import InvalidType, InvalidValue, UserError, check_names, describe, did_you_mean
from sbbatch.settings.reader import hyperparams_folder, read_call, read_literal, read_yaml

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

SPACES_FILE = "hyperparams/spaces.yml"
ABS_SECTION = "abs"
_MEASUREMENTS = 60  # of ABS in one trial; nothing moves before the tenth

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Space:
    """What a study searches."""

    name: str  # for people
    entries: dict[str, Entry]  # argument -> what it may be, the most telling first

    @property
    def varied(self) -> dict[str, Entry]:
        """Without fixed values."""
        return {key: entry for key, entry in self.entries.items() if len(entry.get("choices", "ab")) > 1}

    def suggest(self, trial: BaseTrial) -> dict[str, Any]:
        """Argument -> value, as Optuna chooses it; a trial that is retried keeps its values."""
        return {key: _suggest(trial, key, entry) for key, entry in self.entries.items()}

    def values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """
        :param params: of a trial, as Optuna keeps them; one that was killed early may lack some
        :return: argument -> value, fixed ones included
        """
        from optuna.trial import FixedTrial

        varied = self.varied
        known = {key: e for key, e in self.entries.items() if key not in varied or optuna_name(key, e) in params}
        return Space(self.name, known).suggest(FixedTrial(dict(params)))

    def settings(self, values: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that a trial changes: its values, entries of dictionaries put into those of the study."""
        merged: dict[str, Any] = {}
        for key, value in values.items():
            argument, *path = key.split(".")
            if path:
                whole = merged.get(argument, base.get(argument)) or {}
                whole = read_literal(whole, argument) if isinstance(whole, str) else whole
                value = _with_entry(argument, whole, path, value)
            merged[argument] = value
        return merged


def _suggest(trial: BaseTrial, key: str, entry: Entry) -> Any:
    if "choices" in entry:
        choices: list[Any] = entry["choices"]
        # Optuna stores plain values, and JSON of the others.
        labels = [json.dumps(value) if isinstance(value, (list, dict)) else value for value in choices]
        return choices[labels.index(trial.suggest_categorical(key, labels)) if len(choices) > 1 else 0]
    low, high = entry["low"], entry["high"]
    if "powers_of" in entry:
        exponents = _exponent(entry, low), _exponent(entry, high)
        return entry["powers_of"] ** trial.suggest_int(optuna_name(key, entry), *exponents)
    whole = isinstance(low, int) and isinstance(high, int)
    return (trial.suggest_int if whole else trial.suggest_float)(key, low, high, log=entry.get("log", False))


def optuna_name(key: str, entry: Entry) -> str:
    """What Optuna calls an argument."""
    return f"log{entry['powers_of']}_{key}" if "powers_of" in entry else key


def _exponent(entry: Entry, power: float) -> int:
    return round(math.log(power, entry["powers_of"]))


def extremes(entry: Entry) -> list[Any]:
    """The values to try before a study begins."""
    return list(entry.get("choices") or (entry["low"], entry["high"]))


def _with_entry(where: str, whole: Any, path: list[str], value: Any) -> dict[str, Any]:
    if not isinstance(whole, Mapping):
        raise InvalidType(f"{where}: got {describe(whole)}, expected a mapping for {path[0]}")
    inner = _with_entry(f"{where}.{path[0]}", whole.get(path[0]) or {}, path[1:], value) if path[1:] else value
    return {**whole, path[0]: inner}


def read_space(name: str, algo: str) -> Space:
    """A packaged space by its name, or one of the user's by its YAML file; a ``UserError`` if there is none."""
    if name.endswith((".yml", ".yaml")):
        return make_space(Path(name).stem, read_yaml(Path(name)), name)
    return make_space(name, _packaged(name, algo), f"{SPACES_FILE} {name} {algo}")


def with_abs(space: Space, algo: str, adapted: str, n_steps: float) -> Space:
    """
    A packaged space with the bounds of an adaptive batch size in the place of a fixed one.

    :param adapted: the argument that is adapted: ``batch_size``, or ``n_steps`` of agents that learn from rollouts
    :param n_steps: agent steps of a trial; where rollouts are adapted, those of one environment
    """
    ((key, entry),) = _packaged(ABS_SECTION, algo).items()
    sizes = []
    for text in entry["choices"]:
        low, high = read_call(text, f"{SPACES_FILE} {ABS_SECTION}")[1]
        # The published interval between two measurements is longer than a trial.
        updates = n_steps / (math.sqrt(low * high) if adapted == "n_steps" else 1)
        # Text, for it is stored in the database and in `best.yml`.
        sizes.append(f"abs({low}, {high}, check_every={max(int(updates / _MEASUREMENTS), 1)})")
    kept = {other: what for other, what in space.entries.items() if other not in (adapted, "batch_size")}
    return Space(f"{space.name}-abs", {key: {"choices": sizes}, **kept})


def for_environments(space: Space, n_envs: int) -> Space:
    """Without numbers of minibatches into which the samples of the shortest rollout cannot be split."""
    length, parts = space.entries.get("n_steps"), space.entries.get("n_minibatches")
    if length is None or parts is None or "low" not in length or "low" not in parts:
        return space
    fewer = {**parts, "high": min(parts["high"], length["low"] * n_envs)}
    return Space(space.name, {**space.entries, "n_minibatches": fewer})


def _packaged(name: str, algo: str) -> dict[str, Any]:
    spaces = read_yaml(hyperparams_folder() / "spaces.yml", SPACES_FILE)
    if name not in spaces:
        raise InvalidValue(f"--space: unknown space '{name}'{did_you_mean(name, spaces)}, or a file my_space.yml")
    if algo not in spaces[name]:
        raise InvalidValue(f"{SPACES_FILE} has nothing for {algo}; write a file and give --space FILE.yml")
    return dict(spaces[name][algo])


def make_space(name: str, content: Mapping[str, Any], where: str) -> Space:
    """
    A space from what is written, e.g. ``{"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}``.

    :param where: it comes from, for messages
    :raises UserError: it is not written as a space
    """
    for key, entry in content.items():
        try:
            _check_entry(entry)
        except UserError as error:
            raise type(error)(f"{where} {key}: {error}") from None
    space = Space(name, dict(content))
    if not space.varied:
        raise InvalidValue(f"{where}: nothing varies, expected an argument with a range or several choices")
    return space


def _range(low: float, high: float, log: bool, powers_of: Annotated[int, Within(2)], choices: list) -> None:
    """What an entry may hold."""


def _check_entry(entry: Any) -> None:
    if not isinstance(entry, Mapping) or not (entry.get("choices") or {"low", "high"} <= set(entry)):
        raise InvalidType(f"got {describe(entry)}, expected {{low: 1, high: 10}} or {{choices: [1, 2]}}")
    check_names("entry", entry, {"choices"} if "choices" in entry else {"low", "high", "log", "powers_of"})
    check_arguments(_range, entry)
    if "choices" in entry:
        return
    low, high = entry["low"], entry["high"]
    if not low < high:
        raise InvalidValue(f"got low {low} and high {high}, expected low < high")
    if low <= 0 and (entry.get("log") or "powers_of" in entry):
        raise InvalidValue(f"got low {low}, expected a number above 0 on a logarithmic scale")
    if "powers_of" in entry and any(entry["powers_of"] ** _exponent(entry, end) != end for end in (low, high)):
        raise InvalidValue(f"got {low} and {high}, expected powers of {entry['powers_of']}")
