"""
Does the batch size have to follow the policy? PQN on MinAtar with fixed, adaptive and scheduled rollouts.

Arms, the same in everything else: rollouts of 8, 32 and 128 steps; ABS between 8 and 128; a line from 8 to 128 that
looks at nothing. The epochs follow the length as in the ABS authors' code, ``max(2 * length // 32, 2)``, so that long
rollouts use each sample more often; the learning rate is constant.

Not among them: ABS the other way round, a falling learning rate, epochs that do not follow, and the average length of
ABS as a fixed one. Without these nobody can say that it is the signal that helps, or the batch size and not the reuse
of samples.

The thresholds of ABS are fixed before it runs, by one rule: the 10th and the 90th percentile of the divergence that the
runs with 32 steps had on the same game. It measures every 5 rollouts instead of every 50, since these trainings are a
tenth as long as the paper's.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

from sbbatch import ABS, PQN, BatchSizeCallback, BatchSizeSchedule
from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write
from sbbatch.networks.torsos import MinAtarCNN
from sbbatch.zoo.run.build import make_env

GAMES = ("Breakout", "Asterix")
ARMS = ("fixed 8", "fixed 32", "fixed 128", "ABS 8-128", "linear 8-128")
SHORTEST, LONGEST, REFERENCE = 8, 128, 32  # rollout steps
CALIBRATES = f"fixed {REFERENCE}"
CHECK_EVERY = 5  # rollouts
N_ENVS = 64
N_BINS = 40  # of a learning curve
RUN_COLUMNS = ("game", "arm", "seed", "final_return", "mean_training_return", "mean_size", "gradient_steps", "seconds")


@dataclass(frozen=True)
class Run:
    """
    One training.

    :param game: MinAtar game
    :param arm: one of ``ARMS``
    :param seed: of everything
    :param n_timesteps: agent steps
    """

    game: str
    arm: str
    seed: int
    n_timesteps: int

    def file(self, folder: Path) -> Path:
        """Where its result is, once it is there; a run of another length is another run."""
        return folder / "runs" / f"{self.game}_{self.arm.replace(' ', '_')}_{self.n_timesteps}_{self.seed}.json"


class TrainingReturns(BaseCallback):
    """Returns of all training episodes: ``steps`` and ``returns``."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.returns: list[float] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.steps.append(self.num_timesteps)
                self.returns.append(float(info["episode"]["r"]))
        return True


def callback_of(arm: str, thresholds: tuple[float, float]) -> BatchSizeCallback:
    """
    What an arm does with the length of rollouts; a fixed one is ABS between equal bounds, which only measures.

    :param arm: one of ``ARMS``
    :param thresholds: of ABS
    """
    low, high = thresholds
    if arm.startswith("fixed"):
        size = int(arm.split()[1])
        return ABS(size, size, check_every=CHECK_EVERY)
    if arm.startswith("ABS"):
        return ABS(SHORTEST, LONGEST, low=low, high=high, check_every=CHECK_EVERY)
    return BatchSizeSchedule.linear(SHORTEST, LONGEST)


def train(run: Run, folder: Path) -> None:
    """
    One training and its evaluation, unless its result is there already.

    :param run: which
    :param folder: of the study
    """
    if run.file(folder).exists():
        return
    th.set_num_threads(1)
    began = time.perf_counter()
    env = make_env(f"MinAtar/{run.game}-v1", n_envs=N_ENVS, seed=run.seed * N_ENVS)
    thresholds = (0.05, 0.95) if run.arm == CALIBRATES else read_thresholds(folder, run)
    model = PQN(
        "CnnPolicy",
        env,
        n_steps=REFERENCE,
        learning_rate=5e-4,
        exploration_final_eps=0.05,
        batch_size_callback=callback_of(run.arm, thresholds),
        policy_kwargs={"features_extractor_class": MinAtarCNN},
        seed=run.seed,
        device="cpu",
    )
    returns = TrainingReturns()
    model.learn(run.n_timesteps, callback=returns)
    games = make_env(f"MinAtar/{run.game}-v1", n_envs=100, seed=10_000 + run.seed, training=False)
    final, _ = evaluate_policy(model, games, n_eval_episodes=100, deterministic=True)
    assert model.batch_scaling_state is not None
    history = model.batch_scaling_state["state"]["history"]
    result = {
        "run": vars(run),
        "thresholds": thresholds,
        "final_return": float(final),  # type: ignore[arg-type]
        "curve": learning_curve(returns.steps, returns.returns, run.n_timesteps),
        "history": history,
        "mean_size": mean_size(history, run.n_timesteps),
        "gradient_steps": model._n_updates,
        "seconds": time.perf_counter() - began,
    }
    with atomic_write(run.file(folder)) as file:
        file.write(json.dumps(result).encode())


def learning_curve(steps: Sequence[int], returns: Sequence[float], n_timesteps: int) -> list[float]:
    """
    Mean return of the episodes that ended in each of ``N_BINS`` equal spans; an empty one repeats the one before.

    :param steps: when episodes ended
    :param returns: their returns
    :param n_timesteps: length of the training
    """
    bins = np.minimum(np.asarray(steps) * N_BINS // (n_timesteps + 1), N_BINS - 1)
    curve: list[float] = []
    for one in range(N_BINS):
        inside = np.asarray(returns)[bins == one]
        curve.append(float(inside.mean()) if inside.size else (curve[-1] if curve else 0.0))
    return curve


def mean_size(history: Sequence[dict[str, Any]], n_timesteps: int) -> float:
    """
    Average over agent steps.

    :param history: rows with ``timesteps`` and the ``size`` from then on
    :param n_timesteps: length of the training
    """
    starts = [row["timesteps"] for row in history] + [n_timesteps]
    return float(np.average([row["size"] for row in history], weights=np.maximum(np.diff(starts), 0)))


def calibrated(results: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """
    The thresholds of ABS on a game: percentiles 10 and 90 of the divergence with rollouts of 32 steps.

    :param results: of such runs
    :raises InvalidValue: the percentiles are the same
    """
    divergences = [row["divergence"] for result in results for row in result["history"] if "divergence" in row]
    low, high = (float(value) for value in np.quantile(divergences, [0.1, 0.9]))
    low = max(low, 1e-3)
    if high <= low:
        raise InvalidValue(
            f"the divergences of '{CALIBRATES}' are all near {low:g}, which leaves ABS nothing to follow"
        )
    return low, high


def read_thresholds(folder: Path, run: Run) -> tuple[float, float]:
    """
    The thresholds of ABS on a game, made once from all runs with 32 steps that have ended, and never changed.

    :param folder: of the study
    :param run: whose game and length count
    :raises InvalidValue: no run has ended that they could be made from
    """
    path = folder / f"thresholds_{run.game}_{run.n_timesteps}.json"
    if not path.exists():
        pattern = f"{run.game}_{CALIBRATES.replace(' ', '_')}_{run.n_timesteps}_*.json"
        files = sorted((folder / "runs").glob(pattern))
        if not files:
            raise InvalidValue(f"{run.game}: the arm '{CALIBRATES}' must run first, ABS takes its thresholds from it")
        with atomic_write(path) as file:
            file.write(json.dumps(calibrated([json.loads(one.read_text()) for one in files])).encode())
    low, high = json.loads(path.read_text())
    return low, high


def run_all(folder: Path, games: Sequence[str], seeds: Sequence[int], n_timesteps: int, n_jobs: int) -> None:
    """
    All arms; what has ended already is not run again.

    :param folder: where results go
    :param games: MinAtar games
    :param seeds: for each game and arm
    :param n_timesteps: agent steps of each training
    :param n_jobs: trainings at a time, one thread each
    """
    runs = [Run(game, arm, seed, n_timesteps) for seed in seeds for arm in ARMS for game in games]
    first, rest = ([run for run in runs if (run.arm == CALIBRATES) is one] for one in (True, False))
    for part in (first, rest):  # thresholds must be known before ABS runs
        with ProcessPoolExecutor(n_jobs, mp_context=get_context("spawn")) as pool:
            list(pool.map(partial(train, folder=folder), part))


def write_tables(folder: Path, n_timesteps: int) -> list[dict[str, Any]]:
    """
    ``runs.csv`` from all results of a folder.

    :param folder: of the study
    :param n_timesteps: only trainings of this length
    :return: the results
    """
    results = [json.loads(file.read_text()) for file in sorted((folder / "runs").glob(f"*_{n_timesteps}_*.json"))]
    with (folder / "runs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(RUN_COLUMNS)
        for result in results:
            run = result["run"]
            curve = float(np.mean(result["curve"]))
            figures = [result["final_return"], curve, result["mean_size"], result["gradient_steps"], result["seconds"]]
            writer.writerow([run["game"], run["arm"], run["seed"], *[round(figure, 3) for figure in figures]])
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """
    ``python -m sbbatch.studies.abs_minatar``: run what is missing, then write tables and figures.

    :param argv: arguments of the command line
    """
    from sbbatch.studies.abs_minatar_report import report

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("docs/results/abs_minatar"), help="where results go")
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--n-timesteps", type=int, default=2_000_000, help="agent steps of each training")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, one thread each")
    parser.add_argument("--report-only", action="store_true", help="tables and figures of what is there")
    args = parser.parse_args(argv)
    if not args.report_only:
        run_all(args.folder, args.games, args.seeds, args.n_timesteps, args.jobs)
    report(args.folder, write_tables(args.folder, args.n_timesteps))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
