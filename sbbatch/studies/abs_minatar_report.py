"""Tables and figures of :mod:`sbbatch.studies.abs_minatar`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.analysis.metrics import iqm, stratified_bootstrap_interval
from sbbatch.studies.abs_minatar import ARMS, CALIBRATES, GAMES

COLORS = ("#0072B2", "#56B4E9", "#009E73", "#D55E00", "#CC79A7")  # told apart by colour-blind readers
TABLE_COLUMNS = ("what", "game", "arm", "runs", "iqm", "low", "high")


def report(folder: Path, results: Sequence[dict[str, Any]]) -> None:
    """
    ``summary.csv`` and ``curves.png`` beside the results.

    :param folder: of the study
    :param results: all that have ended
    """
    rows = summary(results)
    with (folder / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(TABLE_COLUMNS)
        writer.writerows(rows)
    for row in rows:
        print("{:<22} {:<10} {:<14} {} runs  {:8.3f}  [{:.3f}, {:.3f}]".format(*row))
    draw(results, folder / "curves.png")


def summary(results: Sequence[dict[str, Any]]) -> list[tuple[str, str, str, int, float, float, float]]:
    """
    Interquartile means with 95 % intervals, for each game and for both together, where scores are divided by the mean
    score of the runs with 32 steps on the same game.

    :param results: all that have ended
    :return: rows of ``TABLE_COLUMNS``
    """
    rows = []
    for what, score in (("final greedy return", _final), ("mean training return", _area)):
        games = [game for game in GAMES if _of(results, game, CALIBRATES)]
        scales = {game: np.mean([score(one) for one in _of(results, game, CALIBRATES)]) for game in games}
        for arm in ARMS:
            scores = {game: np.array([score(one) for one in _of(results, game, arm)]) for game in games}
            for game in games:
                if scores[game].size:
                    rows.append(_row(what, game, arm, scores[game][:, None]))
            n = min((values.size for values in scores.values()), default=0)
            if n and len(games) == len(GAMES):
                both = np.stack([scores[game][:n] / scales[game] for game in games], axis=1)
                rows.append(_row(what, "both, rel.", arm, both))
    return rows


def _row(what: str, game: str, arm: str, scores: np.ndarray) -> tuple[str, str, str, int, float, float, float]:
    low, high = stratified_bootstrap_interval(scores, n_resamples=5_000)
    return what, game, arm, len(scores), round(iqm(scores), 3), round(low, 3), round(high, 3)


def _of(results: Sequence[dict[str, Any]], game: str, arm: str) -> list[dict[str, Any]]:
    return [one for one in results if one["run"]["game"] == game and one["run"]["arm"] == arm]


def _final(result: dict[str, Any]) -> float:
    return float(result["final_return"])


def _area(result: dict[str, Any]) -> float:
    return float(np.mean(result["curve"]))


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """
    Return, rollout length and divergence over agent steps, a row for each game; thin lines are single seeds.

    :param results: all that have ended
    :param path: the picture
    """
    from matplotlib.figure import Figure

    games = [game for game in GAMES if any(one["run"]["game"] == game for one in results)]
    figure = Figure(figsize=(13, 3.6 * len(games)), layout="constrained")
    axes = figure.subplots(len(games), 3, squeeze=False)
    for row, game in zip(axes, games, strict=True):
        for arm, color in zip(ARMS, COLORS, strict=True):
            runs = _of(results, game, arm)
            for run in runs:
                _draw_run(row, run, color)
            if runs:
                _draw_mean(row[0], runs, arm, color)
        for one, label in zip(row, ("training return", "rollout steps", "divergence, mean of 20"), strict=True):
            one.set(title=game, ylabel=label, xlabel="million agent steps")
            one.grid(alpha=0.3)
        row[1].set_yscale("log", base=2)
        row[2].set_yscale("log")
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def _draw_run(row: Any, run: dict[str, Any], color: str) -> None:
    n_timesteps = run["run"]["n_timesteps"]
    sizes = [(one["timesteps"] / 1e6, one["size"]) for one in run["history"]]
    row[1].step(*zip(*[*sizes, (n_timesteps / 1e6, sizes[-1][1])], strict=True), color=color, lw=0.8, where="post")
    means = [(one["timesteps"] / 1e6, one["divergence_mean"]) for one in run["history"] if "divergence_mean" in one]
    if means:
        row[2].plot(*zip(*means, strict=True), color=color, lw=0.8)
    row[0].plot(_times(run), run["curve"], color=color, lw=0.5, alpha=0.4)


def _draw_mean(axis: Any, runs: Sequence[dict[str, Any]], arm: str, color: str) -> None:
    axis.plot(_times(runs[0]), np.mean([run["curve"] for run in runs], axis=0), color=color, lw=1.8, label=arm)


def _times(run: dict[str, Any]) -> np.ndarray:
    n = len(run["curve"])
    return (np.arange(n) + 0.5) / n * run["run"]["n_timesteps"] / 1e6
