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
    :param arms: those that have results, a color each
    :param games: environments, a panel each that has results
    :param results: all that have ended
    :param rows: of the summary; those of all games together are drawn as the scores, if there are any
    :param folder: where the pictures go, as PNG and PDF
    :return: names of the pictures
    """
    found = {
        (arm, game): np.array([one.curve for one in results if (one.run.arm, one.run.game) == (arm, game)])
        for arm in arms  # in the order of their colors
        for game in games
    }
    counts = {arm: [len(found[arm, game]) for game in games if len(found[arm, game])] for arm in arms}
    labels = {arm: f"{arm} ({counted(own, 'run')})" for arm, own in counts.items()}
    at = (np.arange(N_BINS) + 0.5) * results[0].run.steps / N_BINS
    curves = [curve_over_runs(game, labels[arm], at, own) for (arm, game), own in found.items() if len(own)]
    caption = "training" + over_runs("interquartile mean", [n for own in counts.values() for n in own])
    draw_curves(curves, picture_files(folder / CURVES), None, caption)
    together = [row for row in rows if row[0] == "final_return" and row[1].startswith("all")]
    if not together:
        return [CURVES]
    with picture(picture_files(folder / SCORES), 6.4, 0.9 + 0.3 * len(together)) as figure:
        axes = figure.subplots()
        for y, (_, _, arm, _, value, low, high) in enumerate(together):
            style = curve_style(list(arms).index(arm))
            axes.plot([low, high], [y, y], **style)
            axes.plot(value, y, "o", color=style["color"])
        what = "training return of all games, last 10 %, scaled:\ninterquartile mean and 95 % bootstrap interval"
        axes.set(xlabel=what, yticks=range(len(together)), ylim=(len(together) - 0.5, -0.5))
        axes.set_yticklabels([f"{row[2]} ({counted([row[3]], 'seed')})" for row in together])
        axes.grid(visible=False, axis="y")
    return [CURVES, SCORES]
