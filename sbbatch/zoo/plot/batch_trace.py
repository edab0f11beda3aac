"""Return, what was measured, and batch size of adaptive runs on one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.agents import ALGORITHMS, PPO, Agent
from sbbatch.analysis.figure import (
    GRAY,
    STEPS,
    curve_style,
    legend_below,
    log_axis,
    number_axes,
    picture,
    picture_files,
)
from sbbatch.analysis.metrics import running_mean, smoothing_window, student_interval
from sbbatch.batch import ABS
from sbbatch.errors import InvalidValue, UserError
from sbbatch.settings.schema import read_object
from sbbatch.zoo.logs.batch_log import COLUMNS, read_batch_log
from sbbatch.zoo.logs.folders import BATCH_LOG_NAME
from sbbatch.zoo.plot.runs import Run, beside, group_runs, read_run

PICTURE_NAME = "batch_size"
_MEASURES = ("divergence", "noise_scale")  # columns that a batch size can follow
_SIZES = {"n_steps": "rollout length\n(steps)", "batch_size": "batch size\n(samples)"}
_WIDE_SIZES = 6.0  # from here on the sizes are on a logarithmic axis: the small ones would be one line otherwise

_FAR = 5.0  # times the largest divergence that is a threshold whose axis is logarithmic
_RARE = 0.05  # share of the measurements that may be lost in the linear part of such an axis

_DOTS = {"markersize": 5, "markeredgewidth": 0}
_RINGS = {"markerfacecolor": "white", "markeredgewidth": 1.4, "markersize": 5, "linewidth": 1}
_TARGET = {"linestyle": ":", "linewidth": 1.4}
_THRESHOLD = {"color": GRAY, "linestyle": "--", "linewidth": 1.2}


@dataclass(frozen=True)
class BatchRun:
    """A run with an adaptive batch size."""

    run: Run
    rows: dict[str, np.ndarray]  # column of ``batch_size.csv`` -> its numbers, the first of which is the starting size

    @property
    def algorithm(self) -> type[Agent] | None:
        """Of ours, or ``None``."""
        return ALGORITHMS.get(self.run.agent)

    @property
    def end(self) -> float:
        """The last agent step that any of the files tells of."""
        ends = [self.rows["timesteps"], self.run.episodes[0], self.run.evaluations[0]]
        return float(max(steps[-1] for steps in ends if len(steps)))

    @property
    def thresholds(self) -> tuple[float, float] | None:
        """The divergences at which ABS takes its largest and its smallest size, as ``config.yml`` has them."""
        try:
            text = self.run.settings.get("batch_size_callback", "")
            callback = read_object("batch_size_callback", str(text), str(self.run.folder))
        except UserError:
            return None  # the file is none of ours
        if self.algorithm is None or not isinstance(callback, ABS):
            return None
        given, own = callback.config(), self.algorithm.scaling_defaults
        low, high = (getattr(own, name) if given[name] is None else given[name] for name in ("low", "high"))
        return low, high

    def name_of(self, column: str) -> str:
        """A column of ``batch_size.csv`` in words, with its unit."""
        if column == "noise_scale":
            return "gradient noise\nscale (samples)"
        if column == "divergence":
            return "divergence\n(KL, nats)" if self.algorithm is PPO else "divergence (share\nof actions changed)"
        return "batch size" if self.algorithm is None else _SIZES[self.algorithm.scaling_defaults.size_name]

    def measured(self, column: str) -> bool:
        """Whether there is anything in this column."""
        return bool(np.isfinite(self.rows[column]).any())


def plot_batch(folders: Sequence[Path | str], out: Path | None = None, title: str | None = None) -> list[Path]:
    """
    Draw return, divergence or noise scale, and batch size against agent steps, one color for each run.

    :param folders: folders of runs with an adaptive batch size
    :param out: the PNG, PDF or SVG to write (``None``: ``batch_size.png`` and ``.pdf`` beside the runs)
    :param title: above the picture (``None``: what is true of all runs, e.g. algorithm and environment)
    :return: the pictures
    :raises UserError: no such folder, a fixed batch size, nothing to draw, a damaged file, or matplotlib is missing
    """
    runs = [read_batch_run(folder) for folder in folders]
    common, names = _names([run.run for run in runs])
    files = picture_files(out or beside([run.run for run in runs]) / PICTURE_NAME)
    with picture(files, 6.4, 0.6 + 1.8 * (2 + len(_measures(runs))), title or common) as figure:
        _draw(figure, runs, names)
    return files


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
    return BatchRun(run, {column: np.array([row[column] for row in rows], dtype=float) for column in COLUMNS})


def _names(runs: list[Run]) -> tuple[str, list[str]]:
    """A title that is true of all runs, and what tells each of them from the others."""
    groups = group_runs(runs)
    found, tasks = {}, {f"{group.agent} on {group.environment}" for group in groups}
    for group in groups:
        task = [f"{group.agent} on {group.environment}"] if len(tasks) > 1 else []
        for run in group.runs:
            own = [] if len(group.runs) == 1 < len(runs) else [run.name]
            found[run.folder] = ", ".join(filter(None, [*task, group.details, *own]))
    names = [found[run.folder] for run in runs]
    if len(set(names)) < len(names):
        names = [str(run.folder.relative_to(beside(runs))) for run in runs]
    common = "Adaptive batch size" if len(tasks) > 1 else tasks.pop()
    return (common, names) if len(runs) > 1 else (f"{common}, {names[0]}", names)


def _measures(runs: list[BatchRun]) -> list[str]:
    """What any of the sizes follows; a schedule follows nothing."""
    return [name for name in _MEASURES if any(run.measured(name) for run in runs)]


def _draw(figure: Any, runs: list[BatchRun], names: list[str]) -> None:
    """Panels above each other: returns, what the batch sizes follow, if anything, and the sizes."""
    measures, alone = _measures(runs), len(runs) == 1
    panels = figure.subplots(2 + len(measures), 1, sharex=True)
    returns, *followed, sizes = panels
    for column, axes in zip((*measures, "size"), panels[1:], strict=True):
        words = {run.name_of(column) for run in runs}
        number_axes(axes, "", words.pop() if len(words) == 1 else column.replace("size", "batch size"))
    number_axes(returns, "", "return\nper episode")
    number_axes(sizes, STEPS, sizes.get_ylabel())
    for i, run in enumerate(runs):
        style = curve_style(i)
        _draw_returns(returns, run, style, alone)
        for axes, measure in zip(followed, measures, strict=True):
            _draw_measure(axes, run, measure, style, faint=len(runs) ** -0.5)
        _draw_sizes(sizes, run, style, alone)
    for axes, measure in zip(followed, measures, strict=True):
        measured = np.concatenate([run.rows[measure] for run in runs])
        positive = measured[measured > 0]
        thresholds = {value for run in runs for value in run.thresholds or () if measure == "divergence"}
        for threshold in thresholds:
            axes.axhline(threshold, **_THRESHOLD)
        # A noise scale spans orders of magnitude, and is 0 where there is no signal; a divergence may be far from the
        # thresholds. Both would be a line on zero.
        far = max(thresholds, default=0) > _FAR * positive.max(initial=0) if thresholds else measure == "noise_scale"
        if far and positive.size:
            log_axis(axes.yaxis, zero=10.0 ** np.floor(np.log10(np.quantile(positive, _RARE))))
        axes.set_ylim(0, (2 if far else 1.1) * max(positive.max(initial=0), *thresholds, 0) or 1)
    shown = np.concatenate([run.rows[column] for run in runs for column in ("size", "target")])
    low, high = np.nanmin(shown), np.nanmax(shown)
    if high / low < _WIDE_SIZES:
        sizes.set_ylim(0, high * 1.1)
        sizes.yaxis.get_major_locator().set_params(integer=True)
    else:
        sizes.set_ylim(low / 1.25, high * 1.25)
        log_axis(sizes.yaxis, base=2)
    start, end = min(run.rows["timesteps"][0] for run in runs), max(run.end for run in runs)
    sizes.set_xlim(start, end + 0.01 * (end - start))
    figure.align_ylabels(panels)
    _explain(returns, runs, names)
    legend_below(figure)


def _explain(axes: Any, runs: list[BatchRun], names: list[str]) -> None:
    """What the legend says: lines by their run if there are several, other marks in no run's color."""
    alone = len(runs) == 1
    for i, name in enumerate(["running means; size"] if alone else names):
        axes.plot([], [], label=name, **curve_style(i))
    dots = "single episodes and measurements" if alone else "single measurements"
    axes.plot([], [], ".", color=GRAY, label=dots, **_DOTS)
    n_evaluated = {run.run.evaluations[1].shape[1] for run in runs if len(run.run.evaluations[0])}
    if n_evaluated:
        means = f"mean of {' or '.join(map(str, sorted(n_evaluated)))}"
        words = f"{means}{', 95 % interval' if alone else ''}" if max(n_evaluated) > 1 else "one episode each"
        axes.plot([], [], "o", label=f"evaluations ({words})", color=GRAY, **_RINGS)
    if any(run.measured("target") for run in runs):
        axes.plot([], [], label="target of the size", **{"color": GRAY, **_TARGET})
    if any(run.thresholds and run.measured("divergence") for run in runs):
        axes.plot([], [], label="low and high threshold", **_THRESHOLD)


def _draw_returns(axes: Any, run: BatchRun, style: dict[str, Any], alone: bool) -> None:
    (steps, returns), (evaluated_at, evaluated) = run.run.episodes, run.run.evaluations
    if len(steps):
        if alone:
            axes.plot(steps, returns, ".", color=GRAY, alpha=0.4, **_DOTS)
        axes.plot(steps, running_mean(returns, smoothing_window(len(steps))), **style)
    if len(evaluated_at):
        mean, half = student_interval(evaluated)
        axes.errorbar(evaluated_at, mean, half if alone else None, fmt="o", color=style["color"], **_RINGS)


def _draw_measure(axes: Any, run: BatchRun, measure: str, style: dict[str, Any], faint: float) -> None:
    steps = run.rows["timesteps"]
    axes.plot(steps, run.rows[measure], ".", color=style["color"], alpha=0.6 * faint, zorder=2, clip_on=False, **_DOTS)
    if measure == "divergence":
        mean = run.rows["divergence_mean"]
        known = np.isfinite(mean)
        axes.plot(steps[known], mean[known], color="white", linewidth=2.8, zorder=3)
        axes.plot(steps[known], mean[known], zorder=4, **style)


def _draw_sizes(axes: Any, run: BatchRun, style: dict[str, Any], alone: bool) -> None:
    # A size lasts until the next measurement, the last one until the run ends.
    steps, sizes = np.append(run.rows["timesteps"], run.end), np.append(run.rows["size"], run.rows["size"][-1])
    axes.step(steps, sizes, where="post", **style)
    axes.plot(run.rows["timesteps"], run.rows["target"], **{**style, **_TARGET})
    if alone:
        axes.fill_between(steps, sizes, 0.0, step="post", color=style["color"], alpha=0.12, linewidth=0)
