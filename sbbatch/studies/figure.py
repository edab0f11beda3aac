"""The figure of a study: learning curves of each game, and the scores of all games together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import trim_mean

from sbbatch.analysis.figure import RETURN, STEPS, curve_style, legend_below, number_axes, picture
from sbbatch.studies.results import N_BINS, Result

_RESAMPLES = 2_000


def draw(arms: Sequence[str], games: Sequence[str], results: Sequence[Result], rows: Sequence[Any], path: Path) -> None:
    """
    :param arms: a color each
    :param games: environments, a panel each
    :param results: all that have ended
    :param rows: of the summary; those of all games together are drawn beside the curves
    :param path: the picture
    """
    n_rows = -(-(len(games) + 1) // 3)
    n_columns = min(len(games) + 1, 3)
    styles = {arm: curve_style(i) for i, arm in enumerate(arms)}
    with picture([path], 4.4 * n_columns, 3.2 * n_rows) as figure:
        axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
        for one, game in zip(axes, games, strict=False):
            for arm, style in styles.items():
                curves = [result.curve for result in results if (result.run.game, result.run.arm) == (game, arm)]
                if curves:
                    _curve(one, np.array(curves), results[0].run.steps, f"{arm} ({len(curves)} runs)", style)
            one.set_title(game)
            number_axes(one, STEPS, RETURN)
        legend_below(figure, "training, interquartile mean over runs; bands: 95 % bootstrap intervals")
        together = [row for row in rows if row[0] == "final_return" and row[1].startswith("all")]
        _scores(axes[len(games)], together, styles)
        for one in axes[len(games) + 1 :]:
            one.set_axis_off()


def _curve(axes: Any, curves: np.ndarray, steps: int, label: str, style: dict[str, Any]) -> None:
    """Interquartile mean over seeds with its 95 % bootstrap interval; curves are ``(seeds, bins)``."""
    at = (np.arange(N_BINS) + 0.5) * steps / N_BINS
    drawn = np.random.default_rng(0).integers(len(curves), size=(_RESAMPLES, len(curves)))
    low, high = np.quantile(trim_mean(curves[drawn], 0.25, axis=1), [0.025, 0.975], axis=0)
    axes.plot(at, trim_mean(curves, 0.25, axis=0), label=label, **style)
    axes.fill_between(at, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _scores(axes: Any, rows: Sequence[Any], styles: dict[str, dict[str, Any]]) -> None:
    for y, (_, _, arm, _, value, low, high) in enumerate(rows):
        axes.plot([low, high], [y, y], **styles[arm])
        axes.plot(value, y, "o", color=styles[arm]["color"])
    axes.set(title="all games", xlabel="scaled training return, last 10 %, IQM", yticks=range(len(rows)))
    axes.set_yticklabels([row[2] for row in rows], fontsize="small")
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
