"""Several agents over seeds, one panel for each environment: evaluations, or training episodes."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.analysis.metrics import Statistic, iqm, stratified_bootstrap_interval
from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write
from sbbatch.zoo.plot.figure import COLORS, new_figure, picture_file, save_figure
from sbbatch.zoo.plot.runs import Run, read_run, running_mean

_RESAMPLES = 2_000
_LAST = 3  # evaluations that the final score averages
_MARKED = 40  # points that have room for a mark each
_POINTS = 60  # of a curve of training episodes
_WINDOW = 50  # of these, or a fifth of a short run


@dataclass(frozen=True)
class Comparison:
    """
    Returns of the runs of one agent in one environment.

    :param environment: id
    :param agent: name of the algorithm, with the settings that tell it from others
    :param timesteps: agent steps that all runs have a return at, e.g. of evaluations ``(points,)``
    :param returns: mean raw return there ``(runs, points)``
    :param statistic: what is drawn of the runs
    """

    environment: str
    agent: str
    timesteps: np.ndarray
    returns: np.ndarray
    statistic: Statistic = iqm

    @cached_property
    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The statistic over runs, and its 95 % bootstrap interval, at each point."""
        columns = [self.returns[:, [i]] for i in range(self.returns.shape[1])]
        ends = np.array([stratified_bootstrap_interval(one, self.statistic, _RESAMPLES) for one in columns])
        return self.statistic(self.returns, axis=0), ends[:, 0], ends[:, 1]

    def final(self) -> np.ndarray:
        """Score of each run: the mean of its last evaluations ``(runs,)``."""
        return self.returns[:, -_LAST:].mean(axis=1)


def group_runs(folders: Sequence[Path | str], by: Sequence[str] = ()) -> dict[tuple[str, str], list[Run]]:
    """
    Runs by environment and agent.

    :param folders: run folders, of any agents and environments
    :param by: settings that tell agents apart as well, e.g. ``batch_size``
    :return: runs of each pair, sorted by it
    :raises InvalidValue: no such folder, or a setting that no run was given
    """
    groups: dict[tuple[str, str], list[Run]] = defaultdict(list)
    runs: dict[Path, Run] = {}
    for folder in folders:
        run = read_run(folder)
        if run.folder in runs:
            raise InvalidValue(f"{folder} is given twice, and would count as two seeds; leave it out once")
        runs[run.folder] = run
        parts = [run.agent, *(f"{key} {run.settings.get(key, 'default')}" for key in by)]
        groups[run.environment, ", ".join(parts)].append(run)
    for key in by:
        if not any(key in run.settings for run in runs.values()):
            raise InvalidValue(f"--by: none of the runs sets {key} in its config.yml")
    return dict(sorted(groups.items()))


def read_runs(folders: Sequence[Path | str], by: Sequence[str] = ()) -> list[Comparison]:
    """
    The evaluations of runs.

    :param folders: run folders, of any agents and environments
    :param by: see :func:`group_runs`
    :return: one for each pair of them, sorted
    :raises InvalidValue: no such folder, or a run without evaluations
    """
    found = []
    for (environment, agent), group in group_runs(folders, by).items():
        for run in group:
            if not len(run.curve.evaluation_steps):
                raise InvalidValue(f"{run.folder}: no evaluation has ended; train with --eval-freq")
        runs = [(run.curve.evaluation_steps, run.curve.evaluation_returns.mean(axis=1)) for run in group]
        n = min(len(steps) for steps, _ in runs)  # evaluations that all runs have
        if any(not np.array_equal(runs[0][0][:n], steps[:n]) for steps, _ in runs):
            raise InvalidValue(
                f"{agent} on {environment}: the runs were evaluated at different steps; compare equal ones"
            )
        returns = np.stack([returns[:n] for _, returns in runs])
        found.append(Comparison(environment, agent, runs[0][0][:n], returns))
    return found


def read_training(folders: Sequence[Path | str], by: Sequence[str] = ()) -> list[Comparison]:
    """
    The training episodes of runs.

    :param folders: run folders, of any agents and environments
    :param by: see :func:`group_runs`
    :return: one for each pair of them, sorted
    :raises InvalidValue: no such folder, or a run without episodes
    """
    found = []
    for (environment, agent), group in group_runs(folders, by).items():
        runs = []
        for folder, curve in [(run.folder, run.curve) for run in group]:
            if not len(curve.episode_steps):
                raise InvalidValue(f"{folder}: no training episode has ended yet, so there is nothing to draw")
            window = min(_WINDOW, max(len(curve.episode_steps) // 5, 1))
            runs.append((curve.episode_steps, running_mean(curve.episode_returns, window)))
        first, last = max(run[0][0] for run in runs), min(run[0][-1] for run in runs)
        if first >= last:
            raise InvalidValue(f"{agent} on {environment}: the runs have no two episodes at common agent steps yet")
        steps = np.linspace(first, last, _POINTS)
        returns = np.stack([np.interp(steps, *run) for run in runs])
        found.append(Comparison(environment, agent, steps, returns, np.mean))
    return found


def draw_comparisons(comparisons: Sequence[Comparison], out: Path, title: str | None, label: str) -> Path:
    """
    One panel for each environment, one colour for each agent, and the numbers beside the picture.

    :param comparisons: what was read
    :param out: the PNG, PDF or SVG to write, with a CSV file of the same name beside it
    :param title: above the picture
    :param label: what the returns are
    :return: the picture
    :raises UserError: matplotlib is missing, or the file cannot be written
    """
    out = picture_file(out)
    environments = sorted({one.environment for one in comparisons})
    agents = sorted({one.agent for one in comparisons})
    figure = new_figure(5.2 * len(environments), 4.2)
    for axes, environment in zip(figure.subplots(1, len(environments), squeeze=False)[0], environments, strict=True):
        for one in comparisons:
            if one.environment == environment:
                _draw(axes, one, COLORS[agents.index(one.agent) % len(COLORS)])
        axes.set_title(environment, parse_math=False)
        axes.set(xlabel="agent steps", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    if title:
        figure.suptitle(title, parse_math=False)
    save_figure(figure, out)
    with atomic_write(out.with_suffix(".csv")) as file:
        file.write(_table(comparisons).encode())
    return out


def _draw(axes: Any, one: Comparison, color: str) -> None:
    mean, low, high = one.curve
    n_runs = len(one.returns)
    label = f"{one.agent} ({n_runs} {'run' if n_runs == 1 else 'runs'})"
    axes.plot(one.timesteps, mean, "o-" if len(mean) <= _MARKED else "-", color=color, markersize=3, label=label)
    axes.fill_between(one.timesteps, low, high, color=color, alpha=0.15, linewidth=0)


def _table(comparisons: Sequence[Comparison]) -> str:
    """CSV, with the statistic by its name, and its interval."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["environment", "agent", "timesteps", "runs", comparisons[0].statistic.__name__, "low", "high"])
    for one in comparisons:
        for step, *figures in zip(one.timesteps, *one.curve, strict=True):
            rounded = [round(float(figure), 3) for figure in figures]
            writer.writerow([one.environment, one.agent, int(step), len(one.returns), *rounded])
    return text.getvalue()


def report(comparisons: Sequence[Comparison]) -> list[str]:
    """
    :param comparisons: what was read
    :return: one line for each, the best of an environment first: mean of the last evaluations, and every run's
    """
    ordered = sorted(comparisons, key=lambda one: (one.environment, -one.final().mean()))
    return [
        f"{one.environment:<28} {one.agent:<16} {one.final().mean():10.1f}   runs: "
        + ", ".join(f"{score:.1f}" for score in one.final())
        for one in ordered
    ]
