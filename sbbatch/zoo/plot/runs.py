"""What the folder of a run says: its settings, episodes and evaluations; and which runs are seeds of one experiment."""

from __future__ import annotations

import csv
import inspect
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.agents import ALGORITHMS
from sbbatch.analysis.figure import plain_number, setting_name
from sbbatch.arguments import Argument, declared
from sbbatch.errors import InvalidValue, UserError
from sbbatch.settings.reader import read_yaml
from sbbatch.settings.resolution import RunArguments
from sbbatch.settings.schema import from_text, plain
from sbbatch.zoo.logs.folders import BATCH_LOG_NAME

# Options that decide what a run comes to, beside its config.yml; None is their default.
_OF_EVALUATIONS = ("eval_episodes", "eval_max_steps", "stuck_steps", "eval_env_kwargs")
_DECIDING = ("trained_agent", "truncate_last_trajectory", *_OF_EVALUATIONS)
_MOST_DIGITS = 6  # of a seed that somebody chose; one that was drawn has ten and tells a reader nothing
_LEFT_BY_A_RUN = ("*monitor.csv", "evaluations.npz", BATCH_LOG_NAME, "*/args.yml")


@dataclass(frozen=True)
class Run:
    """A run as its folder tells of it."""

    folder: Path
    arguments: dict[str, Any]  # it was started with; empty if they were not written down
    settings: dict[str, Any]  # hyperparameters that were set; likewise

    @property
    def agent(self) -> str:
        """Name of its algorithm, as it was written down or as the folder above has it."""
        return str(self.arguments.get("algo") or self.folder.parent.name)

    @property
    def environment(self) -> str:
        """Its environment, as it was written down or as the folder's name has it."""
        return str(self.arguments.get("env") or self.folder.name.rpartition("_")[0] or self.folder.name)

    @property
    def name(self) -> str:
        """What tells it from other runs of the same settings: the seed somebody chose, or its number."""
        seed, number = str(self.arguments.get("seed", "")), re.search(r"_(\d+)(_[0-9a-f-]{36})?$", self.folder.name)
        if seed.isdecimal() and len(seed) <= _MOST_DIGITS:
            return f"seed {seed}"
        return f"run {number[1]}" if number else self.folder.name

    @cached_property
    def given(self) -> dict[str, Any]:
        """Options and settings that it was given; mappings whole, and their members as well."""
        options = {key: option for key, option in self.arguments.items() if option is not None}
        known = _arguments(self.agent)
        read = {key: _in_one_spelling(value, known.get(key)) for key, value in self.settings.items()}
        return {**options, **_with_members(read)}

    def without_evaluations(self) -> Run:
        """As if nobody had said how it is evaluated, which its training episodes do not depend on."""
        kept = ({key: one[key] for key in one if key not in _OF_EVALUATIONS} for one in (self.arguments, self.settings))
        return Run(self.folder, *kept)

    @property
    def deciding(self) -> list[str]:
        """The settings and options that its result depends on, but for the seed; of mappings the members."""
        keys = [key for key in self.given if key in _DECIDING or key.partition(".")[0] in self.settings]
        return [key for key in keys if not isinstance(self.given[key], dict)]

    def value(self, key: str) -> str:
        """What it had for a setting or an option: given, or by default."""
        value = self.given.get(key, _defaults(self.agent).get(key, "default"))
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return plain_number(value) if number else str(value)

    @cached_property
    def episodes(self) -> tuple[np.ndarray, np.ndarray]:
        """Agent steps at the end of each training episode, and its raw return; both ``(episodes,)``, perhaps empty."""
        rows = [row for path in sorted(self.folder.glob("*monitor.csv")) for row in _read_monitor(path)]
        # Episodes of all files in the order they ended.
        _, returns, lengths, steps = np.array(sorted(rows, key=lambda row: row[0])).reshape(-1, 4).T
        # Files of SB3's Monitor do not know the steps of the other environments; the sum of lengths is close.
        return np.cumsum(lengths) if np.isnan(steps).any() else steps, returns

    @cached_property
    def evaluations(self) -> tuple[np.ndarray, np.ndarray]:
        """
        Agent steps at each evaluation ``(evaluations,)``, and raw returns ``(evaluations, episodes)``; perhaps empty.

        :raises InvalidValue: the file is damaged
        """
        path = self.folder / "evaluations.npz"
        if not path.exists():
            return np.empty(0), np.empty((0, 1))
        try:
            with np.load(path, allow_pickle=False) as arrays:
                steps, returns = np.asarray(arrays["timesteps"], float), np.asarray(arrays["results"], float)
            (n,), (n_rows, _) = steps.shape, returns.shape
            if n != n_rows:
                raise ValueError
        except Exception:  # whatever a damaged file leads to
            raise InvalidValue(f"{path}: damaged, or not written by an evaluation") from None
        return steps, returns


def read_run(folder: Path | str) -> Run:
    """
    The run in a folder.

    :raises InvalidValue: no such folder, or no run has written into it
    """
    path = Path(folder).resolve()
    if not path.is_dir():
        raise InvalidValue(f"no such run folder: {folder}")
    if not any(any(path.glob(pattern)) for pattern in _LEFT_BY_A_RUN):
        raise InvalidValue(f"{folder}: not the folder of a run, e.g. logs/qrdqn/ALE-Breakout-v5_1")
    written = [next(path.glob(f"*/{name}"), None) for name in ("args.yml", "config.yml")]
    return Run(path, *({} if file is None else read_yaml(file) for file in written))


@dataclass
class Group:
    """Runs that are drawn as one curve."""

    environment: str
    agent: str  # name of the algorithm's class
    details: str  # settings that tell it from other groups
    runs: list[Run] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Its name in a legend."""
        return ", ".join(filter(None, [self.agent, self.details]))

    def pooled(self) -> list[str]:
        """A sentence about each setting in which its runs differ, seeds apart."""
        keys = sorted({key for run in self.runs for key in run.deciding})
        values = {key: sorted({run.value(key) for run in self.runs}, key=_order) for key in keys}
        return [f"pooled over {key}: {', '.join(own)}" for key, own in values.items() if len(own) > 1]


def group_runs(runs: Sequence[Run], by: Sequence[str] | None = None) -> list[Group]:
    """
    Runs that differ in nothing but the seed, together, by environment and agent; sorted.

    :param by: settings or options that tell the runs of an algorithm apart, whatever else differs (``None``: all of
        ``config.yml``, and those of ``args.yml`` that the result depends on; ``algo`` and ``env`` always do)
    :raises InvalidValue: a run is there twice, or a setting that no run was given
    """
    for folder, n in Counter(run.folder for run in runs).items():
        if n > 1:
            raise InvalidValue(f"{folder} is given twice, and would count as two seeds; leave it out once")
    keys = sorted({key for run in runs for key in run.deciding}) if by is None else [*by]
    keys = [key for key in keys if key not in ("algo", "env")]
    for key in keys:
        if not any(key in run.given for run in runs):
            raise InvalidValue(f"--by: none of the runs sets {key} in its config.yml or args.yml")
    kinds: dict[tuple[str, str], dict[tuple[str, ...], list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        kinds[run.environment, run.agent][tuple(map(run.value, keys))].append(run)
    # The same name in two environments means the same settings.
    told = {(run.agent, key, run.value(key)) for run in runs for key in keys}
    differ = {pair for pair, n in Counter((agent, key) for agent, key, _ in told).items() if n > 1}
    groups = []
    for (environment, agent), kind in sorted(kinds.items()):
        for values, members in sorted(kind.items(), key=lambda item: [_order(value) for value in item[0]]):
            pairs = [(key, value) for key, value in zip(keys, values, strict=True) if (agent, key) in differ]
            details = ", ".join(f"{setting_name(key)} {value}" for key, value in pairs)
            cls = ALGORITHMS.get(agent)
            groups.append(Group(environment, agent if cls is None else cls.__name__, details, members))
    return groups


def beside(runs: Sequence[Run]) -> Path:
    """The folder that a picture of these runs belongs in: the nearest that holds all of them."""
    return Path(os.path.commonpath([run.folder for run in runs]))


@cache
def _defaults(agent: str) -> dict[str, Any]:
    """Settings that were not given, as a file would have them; those inside of mappings are not known."""
    known = _arguments(agent).items()
    return {key: plain(one.default) for key, one in known if one.default is not inspect.Parameter.empty}


@cache
def _arguments(agent: str) -> dict[str, Argument]:
    return {**declared(RunArguments), **(declared(ALGORITHMS[agent]) if agent in ALGORITHMS else {})}


def _in_one_spelling(value: Any, argument: Argument | None) -> Any:
    """A setting in words, such as ``dict(net_arch=[64])`` or ``abs(8,64)``, as a file would have what it stands for."""
    if argument is None or not isinstance(value, str) or argument.schedules:
        return value
    try:
        return plain(from_text("", value, argument))
    except UserError:
        return value  # of another version, or of somebody else


def _with_members(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        members = _with_members(value, f"{prefix}{key}.") if isinstance(value, dict) else {}
        found |= {f"{prefix}{key}": value, **members}
    return found


def _order(value: str) -> tuple[bool, float, str]:
    """Numbers by their size, before texts."""
    try:
        return False, float(value.replace(",", "")), ""
    except ValueError:
        return True, 0.0, value


def _read_monitor(path: Path) -> list[tuple[float, float, float, float]]:
    """Time, return, length and agent steps (NaN if not written) of each episode."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = []
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        try:
            rows.append((float(row["t"]), float(row["r"]), float(row["l"]), float(row.get("steps", "nan"))))
        except (KeyError, TypeError, ValueError):
            break  # the last line may be half-written when the run is still going on or was killed
    return rows
