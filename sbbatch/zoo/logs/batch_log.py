"""
``batch_size.csv``: how the batch size of a replay agent, or the rollout length of a rollout agent, changed; one row per
measurement. The name is the same for both, so that files of earlier versions can be read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sbbatch.batch import BatchSizeCallback
from sbbatch.errors import InvalidValue

# Each callback measures some of those between the first and the last; the first row has the starting size only.
COLUMNS = ("timesteps", "divergence", "divergence_mean", "target", "noise_scale", "size")
# What a size counts, by the argument of the agent that is scaled.
UNITS = {"n_steps": "rollout steps", "batch_size": "samples per gradient step"}

Row = dict[str, float]


def find_batch_callback(model: BaseAlgorithm) -> BatchSizeCallback | None:
    """
    What changes the batch size or rollout length of a model: its own callback, or one that was given to ``learn``.

    :param model: any agent, also one of SB3, whose batch size is fixed
    """
    hooks = getattr(model, "update_hooks", [])
    active = next((hook for hook in hooks if isinstance(hook, BatchSizeCallback)), None)
    return active or getattr(model, "batch_size_callback", None)


def size_now(model: BaseAlgorithm) -> str | None:
    """
    The batch size or rollout length of a model, for the progress bar.

    :param model: any agent
    :return: e.g. ``"batch 8"`` or ``"rollout 32"``; ``None``: it has none
    """
    rollout = isinstance(model, OnPolicyAlgorithm)
    size = getattr(model, "n_steps" if rollout else "batch_size", None)
    return None if size is None else f"{'rollout' if rollout else 'batch'} {size}"


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
        try:
            fields = zip(COLUMNS, line.rstrip("\n").split(","), strict=True)
            row = {name: float(text or "nan") for name, text in fields}
        except ValueError:
            row = dict.fromkeys(COLUMNS, math.inf)
        in_order = row["timesteps"] >= (rows[-1]["timesteps"] if rows else 0)  # NaN is not
        if not (in_order and row["size"] >= 1) or any(value < 0 or math.isinf(value) for value in row.values()):
            raise InvalidValue(f"{path}: damaged in line {number}")
        rows.append(row)
    return rows


def lines_of(rows: Iterable[Mapping[str, float | None]]) -> str:
    """Rows as they stand in the file: counts without a point, and nothing for what is not known."""
    return "".join(",".join(_field(row.get(name)) for name in COLUMNS) + "\n" for row in rows)


def _field(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
