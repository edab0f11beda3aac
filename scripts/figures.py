"""``python scripts/figures.py``: figures of ``docs/results`` from its tables alone, as PNG and PDF, in one style."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import FloatDistribution, IntDistribution

from sbbatch.agents import ALGORITHMS
from sbbatch.analysis.curves import Curve, draw_curves
from sbbatch.analysis.figure import picture, picture_files
from sbbatch.analysis.metrics import student_interval
from sbbatch.analysis.trials import SIZE, draw_history, draw_importances, draw_map
from sbbatch.zoo.tune.report import importances_of

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"
GAMES = "evaluations of single runs; bands: 95 % intervals (t) over {} games each"
ARMS = ("fixed 8", "fixed 32", "fixed 128", "ABS 8-128", "linear 8-128")  # of docs/results/abs_minatar
COLUMNS = {"batch_size": "batch size (samples)", "n_steps": "n-step return (steps)"}
STUDIES = {  # folder -> pairs of settings
    "tuning_cartpole": (("batch_size", "learning_rate"), ("batch_size", "n_steps")),
    "tuning_minatar": tuple(combinations(("batch_size", "learning_rate", "n_steps"), 2)),
}


def of_evaluations(table: pd.DataFrame, panel: str, label: str) -> Curve:
    """The mean over the games of each evaluation, and its interval."""
    games = table.pivot_table(index="agent_steps", columns="game", values="return")
    mean, half = student_interval(games.to_numpy(float))
    return Curve(panel, label, games.index.to_numpy(), mean, mean - half, mean + half)


def draw_roadrunner() -> None:
    """Two agents on two cores, each from a table with a row for each game."""
    for folder, agent in (("btr_two_cores", "BTR"), ("pqn_two_cores", "PQN")):
        table = pd.read_csv(RESULTS / folder / "evaluations.csv")
        parts = table.groupby("seed") if "seed" in table else [(0, table)]
        curves = [of_evaluations(part, "ALE/RoadRunner-v5", f"{agent}, seed {seed}") for seed, part in parts]
        draw_curves(curves, picture_files(RESULTS / folder / "learning_curve"), None, GAMES.format(10))


def draw_minatar() -> None:
    """Agents on MinAtar: two seeds together, and what was run later."""
    folder, curves = RESULTS / "minatar_agents", []
    for (game, agent), part in pd.read_csv(folder / "comparison.csv").groupby(["environment", "agent"]):
        label = f"{ALGORITHMS[agent].__name__} ({part['runs'].iloc[0]} runs)"
        curves.append(Curve(game, label, *(part[name].to_numpy() for name in ("timesteps", "iqm", "low", "high"))))
    caption = "evaluations, interquartile mean over runs; bands: 95 % bootstrap intervals"
    draw_curves(curves, picture_files(folder / "comparison"), None, caption)
    curves, later = [], pd.read_csv(folder / "evaluations_later.csv")
    for (game, agent, seed), part in later.groupby(["environment", "agent", "seed"]):
        mean, games = part["mean_return"].to_numpy(), part["games"].to_numpy()
        half = t_half_width(part["standard_deviation"].to_numpy(), games)
        label = f"{ALGORITHMS[agent].__name__}, seed {seed}"
        curves.append(Curve(game, label, part["agent_steps"].to_numpy(), mean, mean - half, mean + half))
    curves.sort(key=lambda curve: curve.label.startswith("BTR"))  # the colors of the others are those above
    draw_curves(curves, picture_files(folder / "later"), None, GAMES.format(later["games"].iloc[0]))


def t_half_width(deviation: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Half of Student's 95 % interval of a mean, from the standard deviation (``ddof=0``) of so many values."""
    from scipy.stats import t

    return t.ppf(0.975, n - 1) * deviation / np.sqrt(n - 1)


def importances(table: pd.DataFrame) -> dict[str, float]:
    """Those of ``sbbatch tune``, of trials in the space ``batch-lr-nstep``."""
    distributions = {
        "batch_size": IntDistribution(0, 9),  # of its logarithm
        "learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
        "n_steps": IntDistribution(1, 10),
    }
    trials = []
    for row in table.dropna(subset=["score"]).to_dict("records"):
        params = {name: row[name] for name in distributions} | {"batch_size": int(np.log2(row["batch_size"]))}
        trials.append(optuna.create_trial(value=row["score"], params=params, distributions=distributions))
    return importances_of(trials)


def draw_studies() -> None:
    """Maps of the trials of two studies; history and importances of one."""
    for study, pairs in STUDIES.items():
        table = pd.read_csv(RESULTS / study / "trials.csv").rename(columns=COLUMNS)
        for pair in pairs:
            with picture(picture_files(RESULTS / study / "_".join(("map", *pair))), *SIZE) as figure:
                draw_map(figure, table, *(COLUMNS.get(name, name) for name in pair))
    folder = RESULTS / "tuning_minatar"
    table = pd.read_csv(folder / "trials.csv")
    with picture(picture_files(folder / "history"), *SIZE) as figure:
        draw_history(figure, table)
    shares = {COLUMNS.get(name, name): share for name, share in importances(table).items()}
    with picture(picture_files(folder / "importances"), SIZE[0], 2) as figure:
        draw_importances(figure, shares, len(table))


def draw_abs() -> None:
    """The first study of ABS: what three seeds of each arm did over time."""
    folder, runs = RESULTS / "abs_minatar", defaultdict(list)
    for path in sorted((folder / "runs").glob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        runs[run["run"]["game"], run["run"]["arm"]].append(run)
    curves = []
    for quantity, values in (
        ("return per episode", returns_of),
        ("rollout length (steps)", sizes_of),
        ("divergence", divergences_of),
    ):
        for game, arm in sorted(runs, key=lambda key: (key[0] != "Breakout", ARMS.index(key[1]))):
            if quantity == "divergence" and "divergence_mean" not in runs[game, arm][0]["history"][-1]:
                continue  # a schedule looks at nothing
            steps = (np.arange(40) + 0.5) / 40 * runs[game, arm][0]["run"]["n_timesteps"]
            mean, half = student_interval(np.array([values(run, steps) for run in runs[game, arm]]).T)
            curves.append(Curve(f"{game}: {quantity}", arm, steps, mean, mean - half, mean + half))
    curves.sort(key=lambda curve: not curve.panel.startswith("Breakout"))
    caption = "mean over 3 seeds; bands: 95 % intervals (t); divergence: mean of 20 measurements"
    draw_curves(curves, picture_files(folder / "curves"), None, caption, y="")


def returns_of(run: dict[str, Any], steps: np.ndarray) -> np.ndarray:
    """Training return at each of the 40 spans."""
    return np.array(run["curve"])


def sizes_of(run: dict[str, Any], steps: np.ndarray) -> np.ndarray:
    """Rollout length that held there."""
    since = np.array([row["timesteps"] for row in run["history"]])
    return np.array([row["size"] for row in run["history"]])[np.searchsorted(since, steps, side="right") - 1]


def divergences_of(run: dict[str, Any], steps: np.ndarray) -> np.ndarray:
    """What ABS averages."""
    rows = [row for row in run["history"] if "divergence_mean" in row]
    return np.interp(steps, [row["timesteps"] for row in rows], [row["divergence_mean"] for row in rows])


if __name__ == "__main__":
    draw_abs()
    draw_roadrunner()
    draw_minatar()
    draw_studies()
