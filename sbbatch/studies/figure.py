"""The figures of a study: learning curves of each game, and the scores of all games together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.analysis.curves import curve_over_runs, draw_curves, over_runs
from sbbatch.analysis.figure import counted, curve_style, picture, picture_files
from sbbatch.studies.results import N_BINS, Result

CURVES, SCORES = "curves", "scores"  # names of the pictures


def draw(
    arms: Sequence[str], games: Sequence[str], results: Sequence[Result], rows: Sequence[Any], folder: Path
) -> list[str]:
    """
    :param arms: a color each
    :param games: environments, a panel each that has results
    :param results: all that have ended
    :param rows: of the summary; those of all games together are drawn as the scores, if there are any
    :param folder: where the pictures go, as PNG and PDF
    :return: names of the pictures
    """
    found = {
        (game, arm): [one.curve for one in results if (one.run.game, one.run.arm) == (game, arm)]
        for game in games
        for arm in arms
    }
    found = {key: curves for key, curves in found.items() if curves}
    labels = {
        arm: f"{arm} ({counted([len(own) for (_, one), own in found.items() if one == arm], 'run')})"
        for arm in arms
        if any(one == arm for _, one in found)
    }
    at = (np.arange(N_BINS) + 0.5) * results[0].run.steps / N_BINS
    # The order of the arms is that of the colors, in both pictures.
    ordered = sorted(found, key=lambda key: list(labels).index(key[1]))
    curves = [curve_over_runs(game, labels[arm], at, np.array(found[game, arm])) for game, arm in ordered]
    caption = "training" + over_runs("interquartile mean", [len(own) for own in found.values()])
    draw_curves(curves, picture_files(folder / CURVES), None, caption)
    together = [row for row in rows if row[0] == "final_return" and row[1].startswith("all")]
    if not together:
        return [CURVES]
    with picture(picture_files(folder / SCORES), 6.4, 0.9 + 0.3 * len(together)) as figure:
        axes = figure.subplots()
        for y, (_, _, arm, _, value, low, high) in enumerate(together):
            style = curve_style(list(labels).index(arm))
            axes.plot([low, high], [y, y], **style)
            axes.plot(value, y, "o", color=style["color"])
        what = "training return of all games, last 10 %, scaled:\ninterquartile mean and 95 % bootstrap interval"
        axes.set(xlabel=what, yticks=range(len(together)), ylim=(len(together) - 0.5, -0.5))
        axes.set_yticklabels([f"{row[2]} ({counted([row[3]], 'seed')})" for row in together])
        axes.grid(visible=False, axis="y")
    return [CURVES, SCORES]
