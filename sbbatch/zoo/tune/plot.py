"""Pictures of a study: how it went, what mattered, the first arguments against each other, and a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.files import atomic_write
from sbbatch.zoo.plot.curves import new_figure
from sbbatch.zoo.tune.results import Result, ranked, text_of
from sbbatch.zoo.tune.space import Axis, Choices, Powers, Range
from sbbatch.zoo.tune.study import COMPLETE, Plan

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#8A8A8A"
_COLORS = "viridis"
_LEADING = 3  # axes that are drawn against each other
_BINS = 8
_MANY = 12  # values of an axis that get a column each
_LONG_TICK = 7  # characters that do not fit below a cell
TABLE_PICTURE = "table"
_MOST_ROWS = 100  # of the table; the CSV file has all
_CHARACTER, _LINE = 0.095, 0.24  # inches of a letter and of a row


def draw_study(plan: Plan, results: list[Result], importances: dict[str, float]) -> list[Path]:
    """
    Draw what there is to draw.

    :param plan: of the study
    :param results: its trials
    :param importances: argument -> share of 1
    :return: the pictures
    :raises InvalidValue: matplotlib is missing
    """
    counting = [one for one in results if one.has_score]
    pictures: dict[str, Callable[[], Any]] = {}
    if counting:
        pictures["history"] = partial(draw_history, plan, counting)
    if importances:
        pictures["importances"] = partial(draw_importances, importances)
    if len(counting) > 1:
        for across, up in combinations(plan.space.axes[:_LEADING], 2):
            name = f"heatmap_{across.key}_{up.key}".replace(".", "_")
            pictures[name] = partial(draw_heatmap, plan, across, up, counting)
    if results:
        pictures[TABLE_PICTURE] = partial(draw_table, plan, results)
    paths = []
    for name, draw in pictures.items():
        path = plan.folder / f"{name}.png"
        figure = draw()
        with atomic_write(path) as file:
            figure.savefig(file, dpi=130, format="png")
        paths.append(path)
    return paths


def draw_history(plan: Plan, results: list[Result]) -> Any:
    """
    Scores in the order of the slots, and the best so far.

    :param plan: of the study
    :param results: trials with a score
    :return: the figure
    """
    figure = new_figure(7, 4)
    axes = figure.subplots()
    whole = sorted((one for one in results if one.outcome == COMPLETE), key=lambda one: one.number)
    cut = [one for one in results if one.outcome != COMPLETE]
    if cut:
        axes.plot([one.number for one in cut], [one.score for one in cut], "x", color=_GREY, label="stopped early")
    if whole:
        numbers, scores = [one.number for one in whole], [one.score for one in whole]
        axes.plot(numbers, scores, "o", color=_BLUE, markersize=5, label="whole")
        ends = [*numbers, max(one.number for one in results)]
        best = np.maximum.accumulate([*scores, scores[-1]])
        axes.step(ends, best, where="post", color=_ORANGE, linewidth=1.5, label="best so far")
    axes.set(xlabel="trial", ylabel="score")
    axes.set_title(_title(plan), parse_math=False)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize="small")
    return figure


def _title(plan: Plan) -> str:
    return f"{plan.algo} on {plan.env_id}: {plan.study_name}"


def draw_importances(importances: dict[str, float]) -> Any:
    """
    Bars, the longest on top.

    :param importances: argument -> share of 1
    :return: the figure
    """
    figure = new_figure(7, 1.2 + 0.38 * len(importances))
    axes = figure.subplots()
    names, shares = list(importances)[::-1], list(importances.values())[::-1]
    bars = axes.barh(names, shares, color=_BLUE, height=0.6)
    axes.bar_label(bars, [f"{share:.2f}" for share in shares], padding=4, fontsize="small")
    axes.set(xlabel="share of the difference between the best trials and the rest (PED-ANOVA)")
    axes.set_xlim(0, max(shares) * 1.12)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


@dataclass(frozen=True)
class Cells:
    """
    An axis cut into cells.

    :param label: of the axis
    :param ticks: one for each cell, or one for each border
    :param between: whether the ticks are those of the borders
    :param position: from a value to its place, cell ``i`` being from ``i - 0.5`` to ``i + 0.5``
    :param n: cells
    """

    label: str
    ticks: list[str]
    between: bool
    position: Callable[[Any], float]
    n: int

    def cell(self, value: Any) -> int:
        """
        :param value: of the axis
        """
        return min(max(math.floor(self.position(value) + 0.5), 0), self.n - 1)


def cells_of(axis: Axis) -> Cells:
    """
    :param axis: of a space
    """
    if isinstance(axis, Powers):
        ticks = [f"{axis.value(exponent)}" for exponent in range(axis.first, axis.last + 1)]
        return Cells(axis.key, ticks, False, lambda value: round(math.log(value, axis.base)) - axis.first, len(ticks))
    if isinstance(axis, Choices):
        ticks = [str(value) for value in axis.values]
        return Cells(axis.key, ticks, False, lambda value: float(axis.values.index(value)), len(ticks))
    return _range_cells(axis)


def _range_cells(axis: Range) -> Cells:
    if isinstance(axis.low, int) and axis.high - axis.low < _MANY and not axis.log:
        ticks = [str(value) for value in range(axis.low, int(axis.high) + 1)]
        return Cells(axis.key, ticks, False, lambda value: float(value - axis.low), len(ticks))
    scale: Callable[[float], float] = math.log if axis.log else float
    low, high = scale(axis.low), scale(axis.high)
    borders = np.linspace(low, high, _BINS + 1)
    ticks = [f"{math.exp(border) if axis.log else border:.2g}" for border in borders]
    return Cells(axis.key, ticks, True, lambda value: (scale(value) - low) / (high - low) * _BINS - 0.5, _BINS)


def draw_heatmap(plan: Plan, across: Axis, up: Axis, results: list[Result]) -> Any:
    """
    The mean score of the trials in each cell, and every trial: a dot, or a cross if it was stopped early.

    :param plan: of the study
    :param across: horizontal
    :param up: vertical
    :param results: trials with a score
    :return: the figure
    """
    columns, rows = cells_of(across), cells_of(up)
    sums, counts = np.zeros((rows.n, columns.n)), np.zeros((rows.n, columns.n))
    known = [one for one in results if across.key in one.values and up.key in one.values]
    for one in known:
        where = rows.cell(one.values[up.key]), columns.cell(one.values[across.key])
        sums[where] += one.score
        counts[where] += 1
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    figure = new_figure(2.2 + 0.62 * columns.n, 1.6 + 0.45 * rows.n)
    axes = figure.subplots()
    image = axes.imshow(np.ma.masked_invalid(means), origin="lower", aspect="auto", cmap=_COLORS)
    axes.set_facecolor("#F2F2F2")
    _draw_trials(axes, known, columns, rows, across.key, up.key)
    _set_ticks(axes.xaxis, columns)
    _set_ticks(axes.yaxis, rows)
    axes.set(xlabel=columns.label, ylabel=rows.label)
    axes.set_title(_title(plan), parse_math=False)
    figure.colorbar(image, ax=axes, label="mean score of the cell")
    return figure


def draw_table(plan: Plan, results: list[Result]) -> Any:
    """
    The trials, the best first; of very many only the best.

    :param plan: of the study
    :param results: trials
    :return: the figure
    """
    keys = [axis.key for axis in plan.space.axes]
    head = ["trial", "score", *keys, "outcome"]
    shown = ranked(results)[:_MOST_ROWS]
    rows = [
        [
            str(one.number),
            f"{one.score:.1f}" if one.has_score else "",
            *(text_of(one.values[key]) if key in one.values else "" for key in keys),
            one.outcome,
        ]
        for one in shown
    ]
    widths = [max(map(len, column)) + 2 for column in zip(head, *rows, strict=True)]
    figure = new_figure(_CHARACTER * sum(widths) + 0.4, _LINE * (len(rows) + 1) + 0.7)
    axes = figure.subplots()
    axes.axis("off")
    left_out = f" (the best {len(shown)} of {len(results)} trials)" if len(shown) < len(results) else ""
    axes.set_title(_title(plan) + left_out, parse_math=False)
    cells = axes.table(
        rows, colLabels=head, colWidths=[width / sum(widths) for width in widths], cellLoc="right", bbox=(0, 0, 1, 1)
    )
    cells.auto_set_font_size(False)
    cells.set_fontsize(9)
    for (row, _), cell in cells.get_celld().items():
        whole = row > 0 and shown[row - 1].outcome == COMPLETE
        cell.set(edgecolor="#DDDDDD", linewidth=0.6, facecolor="#F4F4F4" if row == 0 else "white")
        cell.get_text().set(color="black" if whole or row == 0 else _GREY, parse_math=False)
    return figure


def _draw_trials(axes: Any, results: list[Result], columns: Cells, rows: Cells, across: str, up: str) -> None:
    rng = np.random.default_rng(0)  # trials of equal values would hide each other
    for one in results:
        shift = rng.uniform(-0.22, 0.22, size=2) * (not columns.between, not rows.between)
        x, y = columns.position(one.values[across]) + shift[0], rows.position(one.values[up]) + shift[1]
        whole = one.outcome == COMPLETE
        for color, width in (("white", 3.0), ("black", 1.2)):  # readable on any colour
            marker, face = ("o", "white") if whole else ("x", color)
            axes.plot(
                x,
                y,
                marker,
                markersize=5.5,
                markerfacecolor=face,
                markeredgecolor=color,
                markeredgewidth=width,
                clip_on=False,
            )


def _set_ticks(axis: Any, cells: Cells) -> None:
    places = np.arange(len(cells.ticks)) - (0.5 if cells.between else 0.0)
    axis.set_ticks(places, cells.ticks)
    if axis.axis_name == "x" and max(map(len, cells.ticks)) > _LONG_TICK:
        for label in axis.get_ticklabels():
            label.set(rotation=30, horizontalalignment="right", rotation_mode="anchor")
