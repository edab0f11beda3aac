"""Curves with their intervals, in panels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.analysis.figure import RETURN, STEPS, curve_style, legend_below, number_axes, picture
from sbbatch.analysis.metrics import Statistic, iqm, stratified_bootstrap_interval

_RESAMPLES = 2_000
_MARKED = 40  # points that have room for a mark each
_COLUMNS = 3  # of panels
Points = tuple[np.ndarray, ...]  # agent steps, and returns there


@dataclass(frozen=True)
class Curve:
    """A line with a band around it."""

    panel: str  # title of the axes it stands in, e.g. the environment
    label: str  # what it shows; the same in several panels is one entry of the legend
    steps: np.ndarray  # agent steps ``(points,)``
    middle: np.ndarray  # likewise
    low: np.ndarray  # likewise
    high: np.ndarray  # likewise
    tails: Sequence[Points] = ()  # of single runs, as thin lines

    def draw(self, axes: Any, label: str, **style: Any) -> None:
        """Draw it into matplotlib's axes, in the color and dashes of ``style``."""
        mark = {"marker": "o", "markersize": 3.5} if len(self.steps) <= _MARKED else {}
        axes.plot(self.steps, self.middle, label=label, **mark, **style)
        axes.fill_between(self.steps, self.low, self.high, color=style["color"], alpha=0.15, linewidth=0)
        for steps, returns in self.tails:  # from the end of the line to the run's own return there, and on
            ends = np.append(self.steps[-1], steps), np.append(self.middle[-1], returns)
            axes.plot(*ends, linewidth=0.8, alpha=0.6, **style)


def curve_over_runs(
    panel: str,
    label: str,
    steps: np.ndarray,
    returns: np.ndarray,
    statistic: Statistic = iqm,
    tails: Sequence[Points] = (),
) -> Curve:
    """
    A statistic over runs at each point, and its 95 % bootstrap interval; of one run nobody knows any.

    :param panel: see :class:`Curve`, as for ``label``, ``steps`` and ``tails``
    :param returns: of each run ``(runs, points)``
    :param statistic: called with an array and an axis
    """
    low = high = np.full(len(steps), np.nan)
    if len(returns) > 1:
        columns = [returns[:, [i]] for i in range(returns.shape[1])]
        low, high = np.transpose([stratified_bootstrap_interval(one, statistic, _RESAMPLES) for one in columns])
    return Curve(panel, label, steps, statistic(returns, axis=0), low, high, tails)


def over_runs(name: str, counts: Sequence[int]) -> str:
    """What a caption says of curves: ``name`` of the statistic, and how many runs each of them is over."""
    alone = max(counts) == 1
    return " of single runs, without intervals" if alone else f", {name} over runs; bands: 95 % bootstrap intervals"


def draw_curves(
    curves: Sequence[Curve], files: Sequence[Path], title: str | None, caption: str, y: str = RETURN
) -> None:
    """
    One panel for each environment, one color for each label, and one legend.

    :param files: see :func:`~sbbatch.analysis.figure.picture_files`
    :param title: above all panels
    :param caption: what lines and bands are, over the legend
    :param y: name of the vertical axes
    :raises UserError: matplotlib is missing, or the file cannot be written
    """
    names, labels = (
        list(dict.fromkeys(texts)) for texts in zip(*((one.panel, one.label) for one in curves), strict=True)
    )
    columns = min(len(names), _COLUMNS)
    rows = math.ceil(len(names) / columns)
    with picture(files, max(6.4, 4.4 * columns), 0.2 + 3.2 * rows, title) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        panels = dict(zip(names, grid.flat, strict=False))
        for axes in grid.flat[len(names) :]:
            axes.remove()
        for one in curves:
            one.draw(panels[one.panel], one.label, **curve_style(labels.index(one.label)))
        for name, axes in panels.items():
            axes.set_title(name)
            number_axes(axes, STEPS, y)
        legend_below(figure, caption)
