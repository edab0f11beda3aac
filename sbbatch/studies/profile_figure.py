"""A study's second picture: how scores are distributed over runs, and what they cost in time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.analysis.comparison import performance_profile
from sbbatch.analysis.figure import curve_style, legend_below, number_axes, picture
from sbbatch.analysis.metrics import iqm
from sbbatch.analysis.scores import human_normalized
from sbbatch.studies.games import scale_of
from sbbatch.studies.results import N_BINS, Result

_SCALED = "scaled training return"


def draw_profiles(arms: Sequence[str], games: Sequence[str], results: Sequence[Result], files: Sequence[Path]) -> None:
    """
    :param arms: those that have results, a color each, as in the other pictures
    :param games: environments; those without a scale are left out
    :param results: all that have ended
    :param files: of the picture
    """
    games = [game for game in games if scale_of(game).human is not None]
    runs = {arm: [one for one in results if one.run.arm == arm and one.run.game in games] for arm in arms}
    scores = {arm: _scaled(of, [one.final_return for one in of]) for arm, of in runs.items() if of}
    thresholds = np.linspace(0.0, 1.05 * max(0.01, *(values.max() for values in scores.values())), 200)
    with picture(files, 9.2, 3.6) as figure:
        profile, cost = figure.subplots(1, 2)
        for arm, values in scores.items():
            style = curve_style(list(arms).index(arm))
            profile.plot(thresholds, performance_profile(values, thresholds), label=arm, **style)
            minutes = np.mean([one.seconds for one in runs[arm]]) / 60 * (np.arange(N_BINS) + 1) / N_BINS
            cost.plot(minutes, iqm(_scaled(runs[arm], [one.curve for one in runs[arm]]), axis=0), label=arm, **style)
        number_axes(profile, f"{_SCALED}, last 10 %", "share of runs above it")
        number_axes(cost, "time of a run (minutes)", f"{_SCALED} (IQM of runs)")
        profile.set_title("performance profile")
        cost.set_title("return over time")
        legend_below(figure, "all games together; times are of the machines the runs were made on")


def _scaled(runs: Sequence[Result], values: Sequence[Any]) -> np.ndarray:
    """Returns, or curves of them, on the scales of their games."""
    return np.array([human_normalized(scale_of(one.run.game), value) for one, value in zip(runs, values, strict=True)])
