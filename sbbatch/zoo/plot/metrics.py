"""What was measured inside of the agents, over training: a panel for each quantity, a curve for each setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sbbatch.analysis.curves import draw_curves
from sbbatch.analysis.figure import counted, picture_files
from sbbatch.analysis.metrics_callback import FILE_NAME, LABELS, read_metrics
from sbbatch.errors import InvalidValue
from sbbatch.zoo.plot.comparison import mean_over_runs
from sbbatch.zoo.plot.runs import beside, group_runs, read_run

METRICS_PICTURE = "metrics"


def plot_metrics(
    folders: Sequence[Path | str], out: Path | None = None, title: str | None = None, by: Sequence[str] | None = None
) -> list[Path]:
    """
    Draw the ``metrics.csv`` of runs: means over seeds with 95 % bootstrap intervals, against agent steps.

    :param folders: of runs
    :param out: the PNG, PDF or SVG to write (``None``: ``metrics.png`` and ``.pdf`` beside the runs)
    :param title: above the picture
    :param by: settings that tell the runs of an agent apart (``None``: all)
    :return: the pictures
    :raises UserError: a run without measurements, a damaged file, or matplotlib is missing
    """
    runs = [read_run(folder) for folder in folders]
    groups = group_runs(runs, by)
    tables = {run.folder: _table(run.folder) for run in runs}
    tasks, curves = {group.environment for group in groups}, []
    for name, label in LABELS.items():
        for group in groups:
            points = [_points(tables[run.folder], name) for run in group.runs]
            if all(len(steps) for steps, _ in points):
                own = f"{group.label} ({counted([len(points)], 'run')})"
                curve = mean_over_runs(group, points).curve
                panel = label if len(tasks) == 1 else f"{label}\n{group.environment}"
                curves.append(replace(curve, panel=panel, label=own))
    files = picture_files(out or beside(runs) / METRICS_PICTURE)
    alone = max(len(group.runs) for group in groups) == 1
    caption = "single runs" if alone else "means over runs; bands: 95 % bootstrap intervals"
    draw_curves(curves, files, title or (tasks.pop() if len(tasks) == 1 else None), caption, "")
    return files


def _table(folder: Path) -> list[dict[str, float]]:
    path = folder / FILE_NAME
    if not path.is_file():
        raise InvalidValue(f"{folder}: no {FILE_NAME}; train with the callback sbbatch.analysis.AnalysisMetrics")
    try:
        rows = [row for row in read_metrics(path) if "timesteps" in row]
    except (ValueError, TypeError, AttributeError):
        raise InvalidValue(f"{path}: damaged, or another file") from None
    if not rows:
        raise InvalidValue(f"{folder}: nothing was measured yet, so there is nothing to draw")
    return rows


def _points(rows: list[dict[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    known = [row for row in rows if name in row]
    return np.array([row["timesteps"] for row in known]), np.array([row[name] for row in known])
