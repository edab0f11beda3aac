"""The figure of a study: learning curves of each game, and the scores of all games together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import trim_mean

from sbbatch.studies.results import N_BINS, Result

# Okabe and Ito's colours, which colour-blind readers can tell apart; more arms repeat them with other dashes.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
_RESAMPLES = 2_000


def draw(arms: Sequence[str], games: Sequence[str], results: Sequence[Result], rows: Sequence[Any], path: Path) -> None:
    """
    :param arms: a colour each
    :param games: environments, a panel each
    :param results: all that have ended
    :param rows: of the summary; those of all games together are drawn beside the curves
    :param path: the picture
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_rows = -(-(len(games) + 1) // 3)
    n_columns = min(len(games) + 1, 3)
    figure = Figure(figsize=(4.6 * n_columns, 3.6 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    styles = {arm: (_COLORS[i % 7], _DASHES[i // 7 % 4]) for i, arm in enumerate(arms)}
    for one, game in zip(axes, games, strict=False):
        for arm, (color, dash) in styles.items():
            curves = [result.curve for result in results if (result.run.game, result.run.arm) == (game, arm)]
            if curves:
                _curve(one, np.array(curves), results[0].run.steps, color, dash, f"{arm} ({len(curves)} runs)")
        one.set(title=game, xlabel="agent steps", ylabel="training return")
        one.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    _scores(axes[len(games)], [row for row in rows if row[0] == "final_return" and row[1].startswith("all")], styles)
    for one in axes[len(games) + 1 :]:
        one.set_axis_off()
    figure.savefig(path, dpi=150)


def _curve(axes: Any, curves: np.ndarray, steps: int, color: str, dash: str, label: str) -> None:
    """Interquartile mean over seeds with its 95 % bootstrap interval; curves are ``(seeds, bins)``."""
    at = (np.arange(N_BINS) + 0.5) * steps / N_BINS
    drawn = np.random.default_rng(0).integers(len(curves), size=(_RESAMPLES, len(curves)))
    low, high = np.quantile(trim_mean(curves[drawn], 0.25, axis=1), [0.025, 0.975], axis=0)
    axes.plot(at, trim_mean(curves, 0.25, axis=0), dash, color=color, label=label)
    axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)


def _scores(axes: Any, rows: Sequence[Any], styles: dict[str, tuple[str, str]]) -> None:
    for y, (_, _, arm, _, value, low, high) in enumerate(rows):
        axes.plot([low, high], [y, y], styles[arm][1], color=styles[arm][0])
        axes.plot(value, y, "o", color=styles[arm][0])
    axes.set(title="all games", xlabel="scaled training return, last 10 %, IQM", yticks=range(len(rows)))
    axes.set_yticklabels([row[2] for row in rows], fontsize="small")
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis="x")
