"""``batch_size.csv``: how the batch size of a run changed, one row per measurement."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sbbatch.errors import InvalidValue

COLUMNS = ("timesteps", "divergence", "divergence_mean", "target", "size")
# A row of the starting size, or one before the window is full, leaves these out.
_OPTIONAL = ("divergence", "divergence_mean", "target")

Row = dict[str, float]


def batch_history(model: BaseAlgorithm) -> list[dict[str, Any]] | None:
    """
    The measurements that changed the batch size of a model so far; ``None``: its batch size is fixed.

    :param model: any agent, also one of SB3, which knows no such callback
    """
    callback = getattr(model, "batch_size_callback", None)
    return None if callback is None else callback.history


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

    :param rows: e.g. measurements of :func:`batch_history`
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
