"""Trials of a study: in their order, over two of their settings, and what mattered; drawn from their table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sbbatch.analysis.figure import COLORS, GRAY, legend_below, log_axis, number_axes, plain_number, setting_name

if TYPE_CHECKING:
    import pandas as pd

SIZE = 6.4, 3.9  # of a picture, in inches
_WIDE_SETTINGS = 20  # from here on an axis is logarithmic
_DOUBTFUL_TRIALS = 50  # of docs/results/tuning_minatar, subsets of 10 to 30 trials have shares that vary by 0.2
_MARKS = ((True, "o", "complete trial"), (False, "X", "trial that was stopped early"))


def draw_history(figure: Any, table: pd.DataFrame) -> None:
    """
    The score of each trial, and the best so far.

    :param figure: to draw into
    :param table: ``trials.csv``
    """
    axes = figure.subplots()
    for complete, marker, label in _MARKS:
        some = table[table["score"].notna() & ((table["outcome"] == "complete") == complete)]
        if len(some):
            axes.plot(some["trial"], some["score"], marker, color=GRAY, markeredgewidth=0, label=label)
    whole = table[table["outcome"] == "complete"]
    best = whole["score"].astype(float).cummax()
    axes.step(whole["trial"], best, where="post", color=COLORS[1], label="best complete trial so far")
    number_axes(axes, "trial", "score (return per episode)")
    legend_below(figure)


def draw_importances(figure: Any, importances: Mapping[str, float], n_trials: int) -> None:
    """
    Bars with the share of each setting in what makes the best trials differ from the others.

    :param figure: to draw into
    :param importances: shares
    :param n_trials: that they were found from; of few trials they are mostly chance, which the axis says
    """
    axes = figure.subplots()
    names, shares = zip(*sorted(importances.items(), key=lambda item: item[1]), strict=True)
    bars = axes.barh([setting_name(name) for name in names], shares, color=COLORS[0], height=0.6)
    axes.bar_label(bars, [f"{share:.2f}" for share in shares], padding=3)
    doubt = ", too few to tell chance from effect" if n_trials < _DOUBTFUL_TRIALS else ""
    axes.set(xlabel=f"importance (share; of {n_trials} trials{doubt})", xlim=(0, 1.12 * max(shares)))
    axes.grid(visible=False, axis="y")


def draw_map(figure: Any, table: pd.DataFrame, x: str, y: str) -> None:
    """
    Trials over two of their settings, in the color of their score.

    :param figure: to draw into
    :param table: ``trials.csv``
    :param x: column of the setting across
    :param y: column of the setting upwards
    """
    axes, some = figure.subplots(), table[table["score"].notna()].sort_values("score")  # the best lie on top
    across, upwards = _places(axes.xaxis, some[x]), _places(axes.yaxis, some[y])
    scores = some["score"].astype(float)
    for complete, marker, label in _MARKS:
        of = ((some["outcome"] == "complete") == complete).to_numpy()
        if not of.any():
            continue
        colors = {"c": scores[of], "vmin": scores.min(), "vmax": scores.max(), "cmap": "cividis", "edgecolor": "black"}
        marks = axes.scatter(across[of], upwards[of], s=70, marker=marker, linewidth=0.8, **colors)
        axes.plot([], [], marker, color=GRAY, markeredgewidth=0, label=label)
    figure.colorbar(marks, ax=axes, label="score (return per episode)", format=plain_number)
    axes.set(xlabel=setting_name(x), ylabel=setting_name(y))
    for axis, name, values in ((axes.xaxis, x, across), (axes.yaxis, y, upwards)):
        if values.dtype.kind != "f":
            continue  # names
        if values.min() > 0 and values.max() >= _WIDE_SETTINGS * values.min():
            log_axis(axis, base=2 if "batch size" in setting_name(name) else 10)
        else:
            axis.set_major_formatter(plain_number)
    legend_below(figure)


def _places(axis: Any, values: pd.Series) -> np.ndarray:
    """Where values stand on an axis: numbers; or texts side by side, such as null, after numbers by their size."""
    import pandas as pd

    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    if numbers.notna().all():
        return numbers.to_numpy()
    texts = values.astype(str).mask(numbers.notna(), numbers.map(plain_number)).mask(values.isna(), "null")
    axis.update_units(texts.iloc[np.argsort(numbers.to_numpy(), kind="stable")].to_numpy(str))  # NaN comes last
    return texts.to_numpy(str)
