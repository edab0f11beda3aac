"""The learning curve of one run, drawn from the files it left."""

from __future__ import annotations

from pathlib import Path

from sbbatch.analysis.curves import Curve
from sbbatch.analysis.figure import GRAY, RETURN, STEPS, curve_style, legend_below, number_axes, picture, picture_files
from sbbatch.analysis.metrics import running_mean, smoothing_window, student_interval
from sbbatch.errors import InvalidValue
from sbbatch.zoo.plot.runs import group_runs, read_run

PICTURE_NAME = "learning_curve"


def plot_run(folder: Path | str, out: Path | None = None, title: str | None = None) -> list[Path]:
    """
    Draw training episodes and evaluations against agent steps.

    :param folder: a run's folder
    :param out: the PNG, PDF or SVG to write (``None``: ``learning_curve.png`` and ``.pdf`` in the folder)
    :param title: above the curve (``None``: algorithm, environment and the run's seed or number)
    :return: the pictures
    :raises UserError: no such folder, nothing to draw, or matplotlib is missing
    """
    (group,) = group_runs([read_run(folder)])
    (run,) = group.runs
    files = picture_files(out or run.folder / PICTURE_NAME)
    (steps, returns), (evaluated_at, evaluated) = run.episodes, run.evaluations
    if not len(steps) and not len(evaluated_at):
        raise InvalidValue(f"{folder}: no episode or evaluation has ended yet, so there is nothing to draw")
    with picture(files, 6.4, 3.6, title or f"{group.agent} on {group.environment}, {run.name}") as figure:
        axes = figure.subplots()
        if len(steps):
            window = smoothing_window(len(steps))
            axes.plot(steps, returns, ".", color=GRAY, alpha=0.4, markersize=4, mew=0, label="one training episode")
            label = f"training episodes, mean of the last {window}"
            axes.plot(steps, running_mean(returns, window), label=label, **curve_style(0))
        if len(evaluated_at):
            mean, half = student_interval(evaluated)
            n = evaluated.shape[1]
            label = f"evaluations, {f'mean and 95 % interval over {n} episodes' if n > 1 else 'one episode each'}"
            Curve("", "", evaluated_at, mean, mean - half, mean + half).draw(axes, label, **curve_style(1))
        number_axes(axes, STEPS, RETURN)
        legend_below(figure)
    return files
