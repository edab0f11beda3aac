"""Several agents over seeds, one panel for each environment: evaluations, or training episodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.analysis.metrics import Statistic, iqm, stratified_bootstrap_interval
from sbbatch.errors import InvalidValue
from sbbatch.files import write_csv
from sbbatch.zoo.plot.figure import COLORS, new_figure, picture_file, save_figure
from sbbatch.zoo.plot.runs import Run, read_run, running_mean

_RESAMPLES = 2_000
_LAST = 3  # evaluations that the final score averages
_MARKED = 40  # points that have room for a mark each
_POINTS = 60  # of a curve of training episodes
_WINDOW = 50  # of these, or a fifth of a short run


@dataclass(frozen=True)
class Comparison:
    """Returns of the runs of one agent in one environment."""

    environment: str
    agent: str  # name of the algorithm, with the settings that tell it from others
    timesteps: np.ndarray  # agent steps that all runs have a return at, e.g. of evaluations ``(points,)``
    returns: np.ndarray  # mean raw return there ``(runs, points)``
    statistic: Statistic = iqm  # what is drawn of the runs

    @cached_property
    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The statistic over runs, and its 95 % bootstrap interval, at each point."""
        columns = [self.returns[:, [i]] for i in range(self.returns.shape[1])]
        ends = np.array([stratified_bootstrap_interval(one, self.statistic, _RESAMPLES) for one in columns])
        return self.statistic(self.returns, axis=0), ends[:, 0], ends[:, 1]

    def final(self) -> np.ndarray:
        """Score of each run: the mean of its last evaluations ``(runs,)``."""
        return self.returns[:, -_LAST:].mean(axis=1)

    def rows(self) -> Iterator[list[Any]]:
        """Lines of a table: what is drawn, at each point."""
        for step, *figures in zip(self.timesteps, *self.curve, strict=True):
            rounded = [round(float(figure), 3) for figure in figures]
            yield [self.environment, self.agent, int(step), len(self.returns), *rounded]


def group_runs(folders: Sequence[Path | str], by: Sequence[str] = ()) -> dict[tuple[str, str], list[Run]]:
    """
    Runs by environment and agent, sorted.

    :param by: settings that tell agents apart as well, e.g. ``batch_size``
    :raises InvalidValue: no such folder, one that is given twice, or a setting that no run was given
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
    """The evaluations of runs, for each group of :func:`group_runs`; every run must have some, at the same steps."""
    found = []
    for (environment, agent), runs in group_runs(folders, by).items():
        for run in runs:
            if not len(run.evaluations[0]):
                raise InvalidValue(f"{run.folder}: no evaluation has ended; train with --eval-freq")
        n = min(len(run.evaluations[0]) for run in runs)  # evaluations that all runs have
        steps = runs[0].evaluations[0][:n]
        if any(not np.array_equal(steps, run.evaluations[0][:n]) for run in runs):
            raise InvalidValue(f"{agent} on {environment}: the runs were evaluated at different steps")
        returns = np.stack([run.evaluations[1][:n].mean(axis=1) for run in runs])
        found.append(Comparison(environment, agent, steps, returns))
    return found


def read_training(folders: Sequence[Path | str], by: Sequence[str] = ()) -> list[Comparison]:
    """The training episodes of runs, for each group of :func:`group_runs`, up to the end of the shortest run."""
    found = []
    for (environment, agent), runs in group_runs(folders, by).items():
        curves = []
        for run in runs:
            steps, returns = run.episodes
            if not len(steps):
                raise InvalidValue(f"{run.folder}: no training episode has ended yet, so there is nothing to draw")
            curves.append((steps, running_mean(returns, min(_WINDOW, max(len(steps) // 5, 1)))))
        first, last = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
        if first >= last:
            raise InvalidValue(f"{agent} on {environment}: the runs have no two episodes at common agent steps yet")
        steps = np.linspace(first, last, _POINTS)
        found.append(
            Comparison(environment, agent, steps, np.stack([np.interp(steps, *one) for one in curves]), np.mean)
        )
    return found


def draw_comparisons(comparisons: Sequence[Comparison], out: Path, title: str | None, label: str) -> Path:
    """
    One panel for each environment, one colour for each agent, and a CSV of the numbers beside the picture.

    :param out: the PNG, PDF or SVG to write
    :param label: what the returns are
    :return: the picture
    :raises UserError: matplotlib is missing, or the file cannot be written
    """
    out = picture_file(out)
    environments = sorted({one.environment for one in comparisons})
    agents = sorted({one.agent for one in comparisons})
    figure = new_figure(5.2 * len(environments), 4.2)
    panels = dict(zip(environments, figure.subplots(1, len(environments), squeeze=False)[0], strict=True))
    for one in comparisons:
        axes, color = panels[one.environment], COLORS[agents.index(one.agent) % len(COLORS)]
        (mean, low, high), n_runs = one.curve, len(one.returns)
        mark = {"marker": "o", "markersize": 3} if len(mean) <= _MARKED else {}
        text = f"{one.agent} ({n_runs} {'run' if n_runs == 1 else 'runs'})"
        axes.plot(one.timesteps, mean, color=color, label=text, **mark)
        axes.fill_between(one.timesteps, low, high, color=color, alpha=0.15, linewidth=0)
    for environment, axes in panels.items():
        axes.set_title(environment, parse_math=False)
        axes.set(xlabel="agent steps", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    if title:
        figure.suptitle(title, parse_math=False)
    save_figure(figure, out)
    header = ("environment", "agent", "timesteps", "runs", comparisons[0].statistic.__name__, "low", "high")
    write_csv(out.with_suffix(".csv"), header, [row for one in comparisons for row in one.rows()])
    return out


def report_runs(comparisons: Sequence[Comparison]) -> list[str]:
    """One line for each, the best of an environment first: mean of the last evaluations, and every run's."""
    ordered = sorted(comparisons, key=lambda one: (one.environment, -one.final().mean()))
    return [
        f"{one.environment:<28} {one.agent:<16} {one.final().mean():10.1f}   runs: "
        + ", ".join(f"{score:.1f}" for score in one.final())
        for one in ordered
    ]
