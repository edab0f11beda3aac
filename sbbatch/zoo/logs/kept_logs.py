"""What stays in the logs of a run that goes on: nothing later than its model, for that comes again."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.errors import InvalidValue
from sbbatch.files import check_zip
from sbbatch.zoo.console.progress import warn

EPISODE_COLUMNS = ("r", "l", "t", "steps")
STEP_COLUMN = "time/total_timesteps"  # of progress.csv


def kept_episodes(path: Path, steps: int) -> tuple[str, float]:
    """
    :param path: a file that :class:`~sbbatch.zoo.run.callbacks.EpisodeLog` wrote
    :param steps: agent steps of the model that goes on
    :return: the file's new text, empty if nothing can be kept of it; and the seconds trained until its last episode
    """
    first, header, *lines = [*_whole_lines(path), "", ""]
    if not _is_json(first.removeprefix("#")) or tuple(header.strip().split(",")) != EPISODE_COLUMNS:
        _tell_begun_anew(path, first)
        return "", 0.0
    rows = list(_rows(lines, len(EPISODE_COLUMNS), lambda fields: fields[3], steps))
    seconds = _number(rows[-1][1][2]) if rows else 0.0
    return first + header + "".join(line for line, _ in rows), seconds if math.isfinite(seconds) else 0.0


def kept_table(path: Path, steps: int) -> tuple[str, list[str]]:
    """
    :param path: a ``progress.csv``
    :param steps: agent steps of the model that goes on
    :return: the file's new text, and its columns; both are empty if nothing can be kept of it
    """
    header, *lines = _whole_lines(path) or [""]
    columns = next(csv.reader([header]), [])
    if STEP_COLUMN not in columns:
        _tell_begun_anew(path, header)
        return "", []
    place = columns.index(STEP_COLUMN)
    rows = _rows(lines, len(columns), lambda fields: fields[place], steps)
    return header + "".join(line for line, _ in rows), columns


def kept_evaluations(path: Path, steps: int) -> dict[str, list[Any]]:
    """
    :param path: an ``evaluations.npz``
    :param steps: agent steps of the model that goes on
    :return: its arrays as lists, one entry per evaluation; empty if nothing can be kept of it
    """
    if not path.is_file():
        return {}
    try:
        check_zip(path, "evaluations")
        with np.load(path, allow_pickle=False) as arrays:
            kept = arrays["timesteps"] <= steps
            return {name: arrays[name][kept].tolist() for name in arrays.files}
    except (InvalidValue, KeyError, ValueError, IndexError, TypeError):
        _tell_begun_anew(path, "damaged")
        return {}


def _whole_lines(path: Path) -> list[str]:
    """Without a last one that a kill has cut off."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    return lines[:-1] if lines and not lines[-1].endswith("\n") else lines


def _rows(
    lines: list[str], n_fields: int, step_of: Callable[[list[str]], str], steps: int
) -> Iterator[tuple[str, list[str]]]:
    """Line and fields of each row up to a step."""
    for line in lines:
        fields = next(csv.reader([line]), [])
        if len(fields) == n_fields and _number(step_of(fields)) <= steps:  # NaN is not
            yield line, fields


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _tell_begun_anew(path: Path, content: str) -> None:
    if content:  # nothing to tell of a file that is not there, or empty
        warn(f"{path} cannot be gone on with, for it is damaged or another file; it is begun anew")
