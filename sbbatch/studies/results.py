"""What the runs of a study left behind, as one tidy table."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.analysis.scores import human_normalized
from sbbatch.files import write_csv
from sbbatch.studies.games import scale_of
from sbbatch.studies.study import Run

N_BINS = 40  # of a learning curve
_SPANS = tuple(f"{100 * (i + 1) / N_BINS:g}%" for i in range(N_BINS))
SCORES = {
    "final_return": "training return, last 10 %",
    "area": "training return, mean over time",
    "last_evaluation": "greedy return at the end",
}
NUMBERS = (*SCORES, "mean_size", "seconds")


@dataclass(frozen=True)
class Result:
    """
    A run that has ended: one row of ``runs.csv``.

    :param run: which
    :param final_return: mean return of the training episodes that ended in the last tenth of the steps
    :param area: mean of ``curve``: the area under the learning curve, divided by its length
    :param last_evaluation: mean return of the greedy policy at the end
    :param mean_size: batch size, or rollout length, averaged over agent steps (NaN: it never changed)
    :param seconds: wall time
    :param curve: see :func:`learning_curve`
    """

    run: Run
    final_return: float
    area: float
    last_evaluation: float
    mean_size: float
    seconds: float
    curve: np.ndarray

    def numbers(self) -> dict[str, Any]:
        """All but the run, as a done file holds them."""
        return {**{name: float(getattr(self, name)) for name in NUMBERS}, "curve": self.curve.tolist()}

    @classmethod
    def of(cls, run: Run, numbers: Mapping[str, Any]) -> Result:
        """What :meth:`numbers` gave."""
        values = {name: float(numbers[name]) for name in NUMBERS}
        return cls(run, curve=np.array(numbers["curve"]), **values)


def read_result(run: Run, folder: Path, seconds: float) -> Result:
    """
    :param run: which
    :param folder: that `sbbatch train` made for it
    :param seconds: wall time it took
    """
    episodes = read_columns(folder / "0.monitor.csv", "steps", "r")
    steps, returns = episodes[:, np.argsort(episodes[0], kind="stable")]
    curve = learning_curve(steps, returns, run.steps)
    last = returns[steps > 0.9 * run.steps]
    final = float(last.mean()) if last.size else float(curve[-1])  # an episode may be longer than that
    with np.load(folder / "evaluations.npz", allow_pickle=False) as evaluations:
        greedy = float(evaluations["results"][-1].mean())
    size, sizes = float("nan"), folder / "batch_size.csv"
    if sizes.exists():
        since, values = read_columns(sizes, "timesteps", "size")
        size = float(np.average(values, weights=np.maximum(np.diff([*since, run.steps]), 0)))
    return Result(run, final, float(curve.mean()), greedy, size, seconds, curve)


def read_columns(path: Path, *names: str) -> np.ndarray:
    """
    :param path: a CSV file, with or without a comment in its first line
    :param names: of columns with numbers
    :return: ``(names, rows)``
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = [[float(row[name]) for name in names] for row in csv.DictReader(x for x in file if x[0] != "#")]
    return np.array(rows).reshape(-1, len(names)).T


def learning_curve(steps: np.ndarray, returns: np.ndarray, n_timesteps: int) -> np.ndarray:
    """
    Mean return of the episodes that ended in each of ``N_BINS`` equal spans; an empty one repeats the one before, and
    before the first episode it is 0.

    :param steps: when episodes ended
    :param returns: their returns
    :param n_timesteps: length of the training
    """
    bins = np.clip(np.ceil(steps * N_BINS / n_timesteps).astype(int) - 1, 0, N_BINS - 1)
    curve = np.zeros(N_BINS)
    for i in range(N_BINS):
        inside = returns[bins == i]
        curve[i] = inside.mean() if inside.size else curve[max(i - 1, 0)]
    return curve


def scores_of(results: Sequence[Result], arm: str, score: str, games: Sequence[str], scaled: bool = True) -> np.ndarray:
    """
    An arm's scores ``(seeds, games)``, of the seeds that have ended on all of the games.

    :param results: all that have ended
    :param arm: which
    :param score: a key of ``SCORES``, or another number such as ``"seconds"``, which has no scale
    :param games: environments
    :param scaled: on each game's scale, so that games can be averaged, and not as raw returns; games without a
        published human score are left out
    """
    scaled = scaled and score in SCORES
    games = [game for game in games if not scaled or scale_of(game).human is not None]
    raw = {(one.run.seed, one.run.game): float(getattr(one, score)) for one in results if one.run.arm == arm}
    if scaled:
        raw = {(seed, game): human_normalized(scale_of(game), raw[seed, game]) for seed, game in raw if game in games}
    seeds = [seed for seed in sorted({seed for seed, _ in raw}) if all((seed, game) in raw for game in games)]
    return np.array([[raw[seed, game] for game in games] for seed in seeds]).reshape(-1, len(games))


def write_runs(results: Sequence[Result], path: Path) -> None:
    """
    :param results: all that have ended
    :param path: a CSV file; its last columns are the learning curve, each headed by the share of the steps it ends at
    """
    rows = []
    for one in results:
        run, values = one.run, (*(getattr(one, name) for name in NUMBERS), *one.curve)
        key = (run.study, run.id, run.arm, run.game, run.seed, run.steps)
        rows.append((*key, *(f"{value:.6g}" for value in values)))
    write_csv(path, ("study", "id", "arm", "game", "seed", "steps", *NUMBERS, *_SPANS), rows)


def read_runs(path: Path) -> dict[str, dict[str, Any]]:
    """
    :param path: what :func:`write_runs` wrote
    :return: by the run's id, as :meth:`Result.numbers` gives them
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row["id"]: {**row, "curve": [float(row[span]) for span in _SPANS]} for row in rows}
