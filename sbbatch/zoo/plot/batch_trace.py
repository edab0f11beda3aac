"""``sbbatch plot batch``: return, what was measured, and batch size of adaptive runs on one time axis."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.agents import ALGORITHMS
from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write, output_file
from sbbatch.zoo.commands.cli import Parser
from sbbatch.zoo.logs.batch_log import COLUMNS, UNITS, read_batch_log
from sbbatch.zoo.logs.folders import BATCH_LOG_NAME
from sbbatch.zoo.plot.curves import (
    Curve,
    arguments_of,
    environment_of,
    mean_interval,
    new_figure,
    read_curve,
    require_run_folder,
    running_mean,
    settings_of,
)

PICTURE_NAME = "batch_size.png"
# Okabe and Ito's colours, which colour-blind readers tell apart; yellow is too pale on white.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
# What a batch size can follow: column -> its name on an axis.
_MEASURES = {"divergence": "divergence", "noise_scale": "gradient noise scale"}
_INK, _GRID = "#333333", "#E3E3E3"
# A smoothed curve of some forty independent points shows what a reader can take in.
_WINDOWS = 40
# From here on the sizes are on a logarithmic axis: the small ones would be one line otherwise.
_WIDE_RATIO = 6.0


@dataclass(frozen=True)
class BatchRun:
    """
    What the files of a run with an adaptive batch size say.

    :param name: for the legend
    :param curve: its episodes and evaluations
    :param rows: column of ``batch_size.csv`` -> its numbers, the first of which is the starting size
    :param unit: of the sizes
    """

    name: str
    curve: Curve
    rows: dict[str, np.ndarray]
    unit: str = "batch size"

    @property
    def end(self) -> float:
        """The last agent step that any of the files tells of."""
        ends = [self.rows["timesteps"], self.curve.episode_steps, self.curve.evaluation_steps]
        return float(max(steps[-1] for steps in ends if len(steps)))

    def measured(self, column: str) -> bool:
        """
        Whether the batch size followed this.

        :param column: of ``batch_size.csv``
        """
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
    paths = [Path(folder).resolve() for folder in folders]
    for path, folder in zip(paths, folders, strict=True):
        _require_adaptive(path, folder)
    out = output_file(out or (paths[0] if len(paths) == 1 else paths[0].parent) / PICTURE_NAME, ".png", ".pdf", ".svg")
    common, names = _names(paths)
    runs = [read_batch_run(path, name) for path, name in zip(paths, names, strict=True)]
    figure = new_figure(8, 3.0 + 2.7 * (1 + len(_measures(runs))))
    # A dollar sign is a dollar sign.
    figure.suptitle(title or common, parse_math=False, fontsize=14, fontweight="bold", color=_INK)
    draw_batch(figure, runs)
    with atomic_write(out) as file:
        figure.savefig(file, dpi=150, format=out.suffix[1:].lower())
    return out


def read_batch_run(folder: Path, name: str) -> BatchRun:
    """
    :param folder: a run's folder, with a ``batch_size.csv``
    :param name: for the legend
    :raises InvalidValue: a file is damaged, or nothing was measured yet
    """
    rows = read_batch_log(folder / BATCH_LOG_NAME)
    columns = {column: np.array([row[column] for row in rows], dtype=float) for column in COLUMNS}
    if len(rows) < 2:
        raise InvalidValue(f"{folder}: nothing was measured yet, so there is nothing to draw")
    return BatchRun(name, read_curve(folder), columns, _unit(folder))


def _unit(folder: Path) -> str:
    """What the sizes of a run count, which its algorithm knows."""
    algorithm = ALGORITHMS.get(str(arguments_of(folder).get("algo") or folder.parent.name))
    return "batch size" if algorithm is None else UNITS[algorithm.scaling_defaults.size_name]


def _require_adaptive(path: Path, shown: Path | str) -> None:
    require_run_folder(Path(shown))
    if (path / BATCH_LOG_NAME).is_file():
        return
    raise InvalidValue(
        f"{shown}: this run has a fixed batch size (no {BATCH_LOG_NAME}); `sbbatch plot {shown}` draws its curve"
    )


def _names(paths: list[Path]) -> tuple[str, list[str]]:
    """A title that is true of all runs, and what tells each of them from the others."""
    tasks = [f"{path.parent.name} on {environment_of(path)}" for path in paths]
    seeds = [arguments_of(path).get("seed") for path in paths]
    names = [path.name for path in paths]
    if len(set(tasks)) > 1:
        return "Adaptive batch size", [f"{task} ({name})" for task, name in zip(tasks, names, strict=True)]
    methods = [str(settings_of(path).get("batch_size_callback", "")) for path in paths]
    if len(set(methods)) == len(paths) > 1:
        names = methods
    elif None not in seeds and len(set(seeds)) == len(seeds):
        names = [f"seed {seed}" for seed in seeds]
    return (tasks[0], names) if len(paths) > 1 else (f"{tasks[0]} ({names[0]})", names)


def draw_batch(figure: Any, runs: list[BatchRun]) -> None:
    """
    Panels above each other: returns, what the batch sizes follow, if anything, and the sizes.

    :param figure: an empty matplotlib figure
    :param runs: what
    """
    measures = _measures(runs)
    heights = [1.25, *(1 for _ in measures), 1]
    panels = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    colors = [_COLORS[i % len(_COLORS)] for i in range(len(runs))]
    for run, color in zip(runs, colors, strict=True):
        _draw_returns(panels[0], run, color, alone=len(runs) == 1)
        for axes, measure in zip(panels[1:-1], measures, strict=True):
            _draw_measure(axes, run, measure, color, faint=len(runs) ** -0.5)
        _draw_sizes(panels[-1], run, color, alone=len(runs) == 1)
    units = {run.unit for run in runs}
    unit = units.pop() if len(units) == 1 else "batch size"
    labels = ["raw return of a game", *(_MEASURES[name] for name in measures), unit]
    for axes, measure in zip(panels[1:-1], measures, strict=True):
        if measure == "divergence":
            axes.set_ylim(bottom=0)
        else:
            axes.set_yscale("symlog", linthresh=1)  # it spans orders of magnitude, and is 0 where there is no signal
    for axes, label in zip(panels, labels, strict=True):
        axes.set_ylabel(label, fontsize=11, color=_INK)
        _dress(axes)
    _scale_sizes(panels[-1], runs)
    panels[-1].set_xlabel("agent steps", fontsize=11, color=_INK)
    start, end = min(run.rows["timesteps"][0] for run in runs), max(run.end for run in runs)
    panels[-1].set_xlim(start, end + 0.01 * (end - start))
    panels[-1].xaxis.set_major_formatter(lambda steps, _: _short(steps))
    figure.align_ylabels(panels)
    _explain(figure, panels, runs, colors)


def _measures(runs: list[BatchRun]) -> list[str]:
    """What any of the sizes follows; a schedule follows nothing."""
    return [name for name in _MEASURES if any(run.measured(name) for run in runs)]


def _draw_returns(axes: Any, run: BatchRun, color: str, alone: bool) -> None:
    curve = run.curve
    if len(curve.episode_steps):
        window = _window(len(curve.episode_returns))
        if alone:
            axes.plot(curve.episode_steps, curve.episode_returns, ".", color=color, alpha=0.18, markersize=4, mew=0)
        axes.plot(curve.episode_steps, running_mean(curve.episode_returns, window), color=color, linewidth=1.8)
    if len(curve.evaluation_steps):
        mean, half = mean_interval(curve.evaluation_returns)
        style = {"markerfacecolor": "white", "markeredgewidth": 1.4, "markersize": 5, "linewidth": 1}
        axes.plot(curve.evaluation_steps, mean, color=color, marker="o", linestyle=":" if alone else "", **style)
        if alone:
            axes.vlines(curve.evaluation_steps, mean - half, mean + half, color=color, linewidth=1, alpha=0.6)


def _draw_measure(axes: Any, run: BatchRun, measure: str, color: str, faint: float) -> None:
    steps = run.rows["timesteps"]
    axes.plot(steps, run.rows[measure], ".", color=color, alpha=0.5 * faint, markersize=5, mew=0, zorder=2)
    if measure != "divergence":
        return
    mean = run.rows["divergence_mean"]
    known = np.isfinite(mean)
    axes.plot(steps[known], mean[known], color="white", linewidth=2.8, zorder=3)
    axes.plot(steps[known], mean[known], color=color, linewidth=1.8, zorder=4)


def _draw_sizes(axes: Any, run: BatchRun, color: str, alone: bool) -> None:
    # A size lasts until the next measurement, the last one until the run ends.
    steps, sizes = np.append(run.rows["timesteps"], run.end), np.append(run.rows["size"], run.rows["size"][-1])
    axes.step(steps, sizes, where="post", color=color, linewidth=1.8)
    if alone and run.measured("target"):
        axes.plot(run.rows["timesteps"], run.rows["target"], linestyle=":", color=color, linewidth=1.2, alpha=0.8)
    if alone:
        axes.fill_between(steps, sizes, 0.0, step="post", color=color, alpha=0.12, linewidth=0)


def _scale_sizes(axes: Any, runs: list[BatchRun]) -> None:
    low = min(run.rows["size"].min() for run in runs)
    high = max(run.rows["size"].max() for run in runs)
    if high / low < _WIDE_RATIO:
        axes.set_ylim(0, high * 1.1)
        axes.yaxis.get_major_locator().set_params(integer=True)
        return
    axes.set_yscale("log", base=2)
    axes.set_ylim(low / 1.25, high * 1.25)
    axes.yaxis.set_major_formatter(lambda size, _: f"{size:,.0f}")
    axes.minorticks_off()


def _dress(axes: Any) -> None:
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#AAAAAA")
    axes.tick_params(colors=_INK, labelsize=9.5, length=3)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")


def _explain(figure: Any, panels: Any, runs: list[BatchRun], colors: list[str]) -> None:
    """Above the panels, which colour is which run; inside them, which mark is what."""
    from matplotlib.lines import Line2D

    ink = colors[0] if len(runs) == 1 else "#777777"
    line = Line2D([], [], color=ink, linewidth=1.8)
    points = Line2D([], [], color=ink, marker=".", linestyle="", alpha=0.5)
    rings = Line2D(
        [], [], color=ink, marker="o", markerfacecolor="white", linestyle=":" if len(runs) == 1 else "", lw=1
    )
    marks: list[tuple[Line2D, str]] = []
    if any(len(run.curve.episode_steps) for run in runs):
        marks.append((line, "training games, running mean"))
    if any(len(run.curve.evaluation_steps) for run in runs):
        marks.append((rings, "evaluation" + (", 95 % interval" if len(runs) == 1 else "")))
    style = {"frameon": False, "fontsize": 9, "labelcolor": _INK}
    # Above the axes, where no curve can run through them.
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0, "ncols": 2, **style}
    if marks:
        panels[0].legend(*zip(*marks, strict=True), **place)
    for axes, measure in zip(panels[1:-1], _measures(runs), strict=True):
        means = measure == "divergence"
        axes.legend([points, line][: 1 + means], ["one measurement", "mean of the window"][: 1 + means], **place)
    if len(runs) == 1 and runs[0].measured("target"):
        dots = Line2D([], [], color=ink, linestyle=":", linewidth=1.2)
        panels[-1].legend([line, dots], ["size", "target, which it follows"], **place)
    if len(runs) > 1:
        handles = [Line2D([], [], color=color, linewidth=3) for color in colors]
        legend = figure.legend(handles, [run.name for run in runs], loc="outside lower center", ncols=5, **style)
        for text in legend.get_texts():
            text.set_parse_math(False)


def _window(n_episodes: int) -> int:
    return max(n_episodes // _WINDOWS, min(20, n_episodes // 5), 1)


def _short(steps: float) -> str:
    """1500000 as 1.5M: the numbers of a time axis must fit beside each other."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if abs(steps) >= unit:
            return f"{steps / unit:,.6g}{letter}"
    return f"{steps:.6g}"


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = Parser(
        prog="sbbatch plot batch",
        description="Draw return, what was measured and batch size of adaptive runs on one time axis.",
    )
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="folder", help="folders of runs, e.g. of several seeds"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help=f"PNG, PDF or SVG (default: {PICTURE_NAME} in the folder, or beside the first of several)",
    )
    parser.add_argument("--title", help="above the picture")
    return parser
