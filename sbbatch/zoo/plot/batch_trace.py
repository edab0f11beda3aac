"""Return, what was measured, and batch size of adaptive runs on one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.agents import ALGORITHMS
from sbbatch.analysis.metrics import student_interval
from sbbatch.errors import InvalidValue
from sbbatch.zoo.logs.batch_log import COLUMNS, UNITS, read_batch_log
from sbbatch.zoo.logs.folders import BATCH_LOG_NAME
from sbbatch.zoo.plot.figure import COLORS, new_figure, picture_file, save_figure
from sbbatch.zoo.plot.runs import Run, read_run, running_mean

PICTURE_NAME = "batch_size.png"
# What a batch size can follow: column -> its name on an axis.
_MEASURES = {"divergence": "divergence", "noise_scale": "gradient noise scale"}
_INK, _GRID = "#333333", "#E3E3E3"
_WINDOWS = 40  # independent points of a smoothed curve
_WIDE_RATIO = 6.0  # from here on the sizes are on a logarithmic axis: the small ones would be one line otherwise
_TEXT = {"frameon": False, "fontsize": 9, "labelcolor": _INK}


@dataclass(frozen=True)
class BatchRun:
    """A run with an adaptive batch size."""

    run: Run
    rows: dict[str, np.ndarray]  # column of ``batch_size.csv`` -> its numbers, the first of which is the starting size
    unit: str  # of the sizes

    @property
    def end(self) -> float:
        """The last agent step that any of the files tells of."""
        ends = [self.rows["timesteps"], self.run.episodes[0], self.run.evaluations[0]]
        return float(max(steps[-1] for steps in ends if len(steps)))

    def measured(self, column: str) -> bool:
        """Whether the batch size followed this column of ``batch_size.csv``."""
        return bool(np.isfinite(self.rows[column]).any())


def plot_batch(folders: Sequence[Path | str], out: Path | None = None, title: str | None = None) -> Path:
    """
    Draw return, divergence or noise scale, and batch size against agent steps, one colour for each run.

    :param folders: folders of runs with an adaptive batch size
    :param out: the PNG, PDF or SVG to write (``None``: ``batch_size.png`` in the folder, or beside the first run)
    :param title: above the picture (``None``: algorithm and environment as the folders name them)
    :return: the picture
    :raises UserError: no such folder, a fixed batch size, nothing to draw, a damaged file, or matplotlib is missing
    """
    runs = [read_batch_run(folder) for folder in folders]
    first = runs[0].run.folder
    out = picture_file(out or (first if len(runs) == 1 else first.parent) / PICTURE_NAME)
    common, names = _names([run.run for run in runs])
    figure = new_figure(8, 3.0 + 2.7 * (1 + len(_measures(runs))))
    # A dollar sign is a dollar sign.
    figure.suptitle(title or common, parse_math=False, fontsize=14, fontweight="bold", color=_INK)
    _draw(figure, runs, names)
    return save_figure(figure, out, dpi=150)


def read_batch_run(folder: Path | str) -> BatchRun:
    """A run by its folder; ``InvalidValue``: none, a fixed batch size, a damaged file, or nothing was measured yet."""
    run = read_run(folder)
    path = run.folder / BATCH_LOG_NAME
    if not path.is_file():
        raise InvalidValue(
            f"{folder}: this run has a fixed batch size (no {path.name}); `sbbatch plot {folder}` draws its curve"
        )
    rows = read_batch_log(path)
    if len(rows) < 2:
        raise InvalidValue(f"{folder}: nothing was measured yet, so there is nothing to draw")
    columns = {column: np.array([row[column] for row in rows], dtype=float) for column in COLUMNS}
    algorithm = ALGORITHMS.get(run.agent)
    return BatchRun(run, columns, "batch size" if algorithm is None else UNITS[algorithm.scaling_defaults.size_name])


def _names(runs: list[Run]) -> tuple[str, list[str]]:
    """A title that is true of all runs, and what tells each of them from the others."""
    tasks = [f"{run.agent} on {run.environment}" for run in runs]
    names = [run.folder.name for run in runs]
    if len(set(tasks)) > 1:
        return "Adaptive batch size", [f"{task} ({name})" for task, name in zip(tasks, names, strict=True)]
    methods = [str(run.settings.get("batch_size_callback", "")) for run in runs]
    seeds = [run.arguments.get("seed") for run in runs]
    if len(set(methods)) == len(runs) > 1:
        names = methods
    elif None not in seeds and len(set(seeds)) == len(seeds):
        names = [f"seed {seed}" for seed in seeds]
    return (tasks[0], names) if len(runs) > 1 else (f"{tasks[0]} ({names[0]})", names)


def _measures(runs: list[BatchRun]) -> list[str]:
    """What any of the sizes follows; a schedule follows nothing."""
    return [name for name in _MEASURES if any(run.measured(name) for run in runs)]


def _draw(figure: Any, runs: list[BatchRun], names: list[str]) -> None:
    """Panels above each other: returns, what the batch sizes follow, if anything, and the sizes."""
    from matplotlib.ticker import EngFormatter

    measures, alone = _measures(runs), len(runs) == 1
    heights = [1.25, *(1 for _ in measures), 1]
    panels = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    returns, *followed, sizes = panels
    units = {run.unit for run in runs}
    labels = ["raw return of an episode", *map(_MEASURES.__getitem__, measures)]
    for axes, label in zip(panels, [*labels, units.pop() if len(units) == 1 else "batch size"], strict=True):
        axes.set_ylabel(label, fontsize=11, color=_INK)
        axes.grid(color=_GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_INK, labelsize=9.5, length=3)
        axes.yaxis.set_major_formatter("{x:,.6g}")
    for i, run in enumerate(runs):
        color = COLORS[i % len(COLORS)]
        _draw_returns(returns, run, color, alone)
        for axes, measure in zip(followed, measures, strict=True):
            _draw_measure(axes, run, measure, color, faint=len(runs) ** -0.5)
        _draw_sizes(sizes, run, color, alone)
    for axes, measure in zip(followed, measures, strict=True):
        if measure == "divergence":
            axes.set_ylim(bottom=0)
        else:
            axes.set_yscale("symlog", linthresh=1)  # it spans orders of magnitude, and is 0 where there is no signal
    all_sizes = np.concatenate([run.rows["size"] for run in runs])
    if all_sizes.max() / all_sizes.min() < _WIDE_RATIO:
        sizes.set_ylim(0, all_sizes.max() * 1.1)
        sizes.yaxis.get_major_locator().set_params(integer=True)
    else:
        sizes.set_yscale("log", base=2)
        sizes.set_ylim(all_sizes.min() / 1.25, all_sizes.max() * 1.25)
        sizes.yaxis.set_major_formatter("{x:,.0f}")
        sizes.minorticks_off()
    start, end = min(run.rows["timesteps"][0] for run in runs), max(run.end for run in runs)
    sizes.set_xlim(start, end + 0.01 * (end - start))
    sizes.set_xlabel("agent steps", fontsize=11, color=_INK)
    sizes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 1.5M: the numbers must fit beside each other
    figure.align_ylabels(panels)
    for axes in panels if alone else panels[:-1]:  # which mark is what, above the axes, where no curve can run through
        marks = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        if marks:
            place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0, "ncols": 2}
            legend = axes.legend(marks.values(), marks.keys(), **place, **_TEXT)
            for handle in [] if alone else legend.legend_handles:
                handle.set_color("#777777")  # of no run in particular
    if not alone:
        legend = figure.legend(sizes.get_lines(), names, loc="outside lower center", ncols=5, **_TEXT)
        for text in legend.get_texts():
            text.set_parse_math(False)


def _draw_returns(axes: Any, run: BatchRun, color: str, alone: bool) -> None:
    (steps, returns), (evaluated_at, evaluated) = run.run.episodes, run.run.evaluations
    if n := len(steps):
        mean = running_mean(returns, max(n // _WINDOWS, min(20, n // 5), 1))
        if alone:
            axes.plot(steps, returns, ".", color=color, alpha=0.18, markersize=4, mew=0)
        axes.plot(steps, mean, color=color, linewidth=1.8, label="training episodes, running mean")
    if len(evaluated_at):
        mean, half = student_interval(evaluated)
        rings = {"marker": "o", "markerfacecolor": "white", "markeredgewidth": 1.4, "markersize": 5, "linewidth": 1}
        label, line = ("evaluation, 95 % interval", ":") if alone else ("evaluation", "")
        axes.plot(evaluated_at, mean, color=color, linestyle=line, label=label, **rings)
        if alone:
            axes.vlines(evaluated_at, mean - half, mean + half, color=color, linewidth=1, alpha=0.6)


def _draw_measure(axes: Any, run: BatchRun, measure: str, color: str, faint: float) -> None:
    steps, dots = run.rows["timesteps"], {"alpha": 0.5 * faint, "markersize": 5, "mew": 0, "zorder": 2}
    axes.plot(steps, run.rows[measure], ".", color=color, label="one measurement", **dots)
    if measure == "divergence":
        mean = run.rows["divergence_mean"]
        known = np.isfinite(mean)
        axes.plot(steps[known], mean[known], color="white", linewidth=2.8, zorder=3)
        axes.plot(steps[known], mean[known], color=color, linewidth=1.8, zorder=4, label="mean of the window")


def _draw_sizes(axes: Any, run: BatchRun, color: str, alone: bool) -> None:
    # A size lasts until the next measurement, the last one until the run ends.
    steps, sizes = np.append(run.rows["timesteps"], run.end), np.append(run.rows["size"], run.rows["size"][-1])
    followed = alone and run.measured("target")
    axes.step(steps, sizes, where="post", color=color, linewidth=1.8, label="size" if followed else None)
    if followed:
        target = {"linestyle": ":", "linewidth": 1.2, "alpha": 0.8, "label": "target, which it follows"}
        axes.plot(run.rows["timesteps"], run.rows["target"], color=color, **target)
    if alone:
        axes.fill_between(steps, sizes, 0.0, step="post", color=color, alpha=0.12, linewidth=0)
