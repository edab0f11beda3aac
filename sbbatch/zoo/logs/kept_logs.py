"""What stays in the logs of a run that is resumed: nothing later than its model, for that comes again."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.errors import InvalidValue
from sbbatch.files import check_zip
from sbbatch.zoo.console.progress import warn

EPISODE_COLUMNS = ("r", "l", "t", "steps")
STEP_COLUMN = "time/total_timesteps"  # of progress.csv


def kept_rows(path: Path, step_column: str, steps: int) -> tuple[str, list[str], list[list[str]]]:
    """
    The part of a ``progress.csv`` or ``monitor.csv`` (which begins with a comment) up to a number of agent steps.

    :return: the file's new text, its columns, and the fields of each row; empty if nothing can be kept of it
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) if path.is_file() else []
    n_head = 2 if lines and lines[0].startswith("#") else 1
    columns = next(csv.reader(lines[n_head - 1 : n_head]), [])
    if step_column not in columns:
        if lines:
            _warn_damaged(path)
        return "", [], []
    place, kept = columns.index(step_column), lines[:n_head]
    rows = []
    for line in lines[n_head:]:
        fields = next(csv.reader([line]), [])
        whole = line.endswith("\n") and len(fields) == len(columns)  # a kill may have cut off the last line
        with suppress(ValueError):  # no number
            if whole and float(fields[place]) <= steps:
                kept.append(line)
                rows.append(fields)
    return "".join(kept), columns, rows


def kept_evaluations(path: Path, steps: int) -> dict[str, list[Any]]:
    """The arrays of an ``evaluations.npz`` up to a step, as lists; empty if nothing can be kept of it."""
    if not path.is_file():
        return {}
    try:
        check_zip(path, "evaluations")
        with np.load(path, allow_pickle=False) as arrays:
            kept = arrays["timesteps"] <= steps
            return {name: arrays[name][kept].tolist() for name in arrays.files}
    except (InvalidValue, KeyError, ValueError, IndexError, TypeError):
        _warn_damaged(path)
        return {}


def _warn_damaged(path: Path) -> None:
    warn(f"{path} cannot be continued (damaged or another file); starting over")
