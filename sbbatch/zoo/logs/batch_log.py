"""``batch_size.csv``: how the batch size of a run changed, one row per measurement."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sbbatch.batch import BatchSizeCallback
from sbbatch.errors import InvalidValue

# Each callback measures some of these, or nothing, and the first row has the starting size only.
_OPTIONAL = ("divergence", "divergence_mean", "target", "noise_scale")
COLUMNS = ("timesteps", *_OPTIONAL, "size")
# What a size counts, by the argument of the agent that is scaled.
UNITS = {"n_steps": "rollout steps", "batch_size": "samples per gradient step"}

Row = dict[str, float]


def find_batch_callback(model: BaseAlgorithm) -> BatchSizeCallback | None:
    """
    What changes the batch size of a model that learns: its own callback, or one that was given to ``learn``.

    :param model: any agent, also one of SB3, whose batch size is fixed
    """
    hooks = getattr(model, "update_hooks", [])
    active = next((hook for hook in hooks if isinstance(hook, BatchSizeCallback)), None)
    return active or getattr(model, "batch_size_callback", None)


def size_now(model: BaseAlgorithm) -> str | None:
    """
    The batch size of a model, for the progress bar.

    :param model: any agent
    :return: e.g. ``"batch 8"`` or ``"rollout 32"``; ``None``: it has none
    """
    name, knob = "batch", "batch_size"
    if isinstance(model, OnPolicyAlgorithm):
        name, knob = "rollout", "n_steps"
    size = getattr(model, knob, None)
    return None if size is None else f"{name} {size}"


def measured_now(model: BaseAlgorithm) -> str | None:
    """
    The last thing that the batch size of a model followed, for the progress bar.

    :param model: any agent
    :return: e.g. ``"divergence 0.12"``; ``None``: nothing was measured
    """
    callback = find_batch_callback(model)
    row = callback.history[-1] if callback is not None and callback.history else {}
    names = {"divergence_mean": "divergence", "noise_scale": "noise scale"}
    return next((f"{shown} {row[name]:.3g}" for name, shown in names.items() if name in row), None)


def read_batch_log(path: Path) -> list[Row]:
    """
    The rows of a file, the oldest first; a number that was left out is NaN.

    :param path: a file whose columns are ``COLUMNS``
    :raises InvalidValue: it is damaged, or another file
    """
    header, *lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) or [""]
    if tuple(header.strip().split(",")) != COLUMNS:
        raise InvalidValue(f"{path}: got the columns '{header.strip()[:80]}', expected '{','.join(COLUMNS)}'")
    if lines and not lines[-1].endswith("\n"):
        lines.pop()  # half-written: the run is going on, or was killed
    rows: list[Row] = []
    for number, line in enumerate(lines, 2):
        row = _parse(line)
        if row is None or (rows and row["timesteps"] < rows[-1]["timesteps"]):
            raise InvalidValue(f"{path}: damaged in line {number}")
        rows.append(row)
    return rows


def lines_of(rows: Iterable[Mapping[str, float | None]]) -> str:
    """
    Rows as they stand in the file: counts without a point, and nothing for what is not known.

    :param rows: e.g. the history of a :class:`~sbbatch.batch.BatchSizeCallback`
    """
    return "".join(",".join(_field(row.get(name)) for name in COLUMNS) + "\n" for row in rows)


def _field(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _parse(line: str) -> Row | None:
    """``None`` for what cannot be a row."""
    fields = next(csv.reader([line]), [])
    if len(fields) != len(COLUMNS):
        return None
    try:
        row = {name: float(text) if text else math.nan for name, text in zip(COLUMNS, fields, strict=True)}
    except ValueError:
        return None
    known = [row[name] for name in COLUMNS if name not in _OPTIONAL]
    fits = all(map(math.isfinite, known)) and row["timesteps"] >= 0 and row["size"] >= 1
    return row if fits and not any(row[name] < 0 or math.isinf(row[name]) for name in _OPTIONAL) else None
