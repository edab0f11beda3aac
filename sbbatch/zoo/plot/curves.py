"""The learning curve of one run, drawn from the files it left."""

from __future__ import annotations

from pathlib import Path

from sbbatch.analysis.metrics import student_interval
from sbbatch.errors import InvalidValue
from sbbatch.zoo.plot.figure import new_figure, picture_file, save_figure
from sbbatch.zoo.plot.runs import read_run, running_mean

PICTURE_NAME = "learning_curve.png"
_RUNNING_MEAN_EPISODES = 20


def plot_run(folder: Path | str, out: Path | None = None, title: str | None = None) -> Path:
    """
    Draw training episodes and evaluations against agent steps.

    :param folder: a run's folder
    :param out: the PNG, PDF or SVG to write (``None``: ``learning_curve.png`` in the folder)
    :param title: above the curve (``None``: algorithm, environment and run as the folders name them)
    :return: the picture
    :raises UserError: no such folder, nothing to draw, or matplotlib is missing
    """
    run = read_run(folder)
    out = picture_file(out or Path(folder) / PICTURE_NAME)
    (steps, returns), (evaluated_at, evaluated) = run.episodes, run.evaluations
    if not len(steps) and not len(evaluated_at):
        raise InvalidValue(f"{folder}: no episode or evaluation has ended yet, so there is nothing to draw")
    figure = new_figure(7, 4.2)
    axes = figure.subplots()
    if len(steps):
        window = min(_RUNNING_MEAN_EPISODES, max(len(steps) // 5, 1))
        axes.plot(steps, returns, ".", color="0.75", markersize=3, zorder=1)
        axes.plot(steps, running_mean(returns, window), color="C0", label=f"training (mean of {window} episodes)")
    if len(evaluated_at):
        mean, half = student_interval(evaluated)
        label = f"evaluation (mean of {evaluated.shape[1]} episodes, 95 % interval)"
        axes.plot(evaluated_at, mean, "o-", color="C1", markersize=4, label=label)
        axes.fill_between(evaluated_at, mean - half, mean + half, color="C1", alpha=0.2, linewidth=0)
    axes.set(xlabel="agent steps", ylabel="raw return of an episode")
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize="small")
    # A dollar sign is a dollar sign.
    axes.set_title(title or f"{run.agent} on {run.environment} ({run.folder.name})", parse_math=False)
    return save_figure(figure, out)
