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
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

from sbbatch import ABS, PQN, BatchSizeCallback, BatchSizeSchedule
from sbbatch.analysis.metrics import iqm, stratified_bootstrap_interval
from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write, write_csv
from sbbatch.networks.torsos import MinAtarCNN
from sbbatch.zoo.plot.figure import new_figure, save_figure
from sbbatch.zoo.run.build import make_env
from sbbatch.zoo.run.processes import side_by_side

GAMES = ("Breakout", "Asterix")
ARMS = ("fixed 8", "fixed 32", "fixed 128", "ABS 8-128", "linear 8-128")
SHORTEST, LONGEST, REFERENCE = 8, 128, 32  # rollout steps
CALIBRATES = f"fixed {REFERENCE}"
CHECK_EVERY = 5  # rollouts
N_ENVS = 64
N_BINS = 40  # of a learning curve
COLORS = ("#0072B2", "#56B4E9", "#009E73", "#D55E00", "#CC79A7")  # told apart by colour-blind readers
COLUMNS = ("final_return", "mean_training_return", "mean_size", "gradient_steps", "seconds")
Runs = Mapping[tuple[str, str], list[dict[str, Any]]]  # results by game and arm


@dataclass(frozen=True)
class Run:
    """One training of so many agent steps."""

    game: str
    arm: str
    seed: int
    n_timesteps: int

    def file(self, folder: Path) -> Path:
        """Where its result is, once it is there; a run of another length is another run."""
        return folder / "runs" / f"{self.game}_{self.arm.replace(' ', '_')}_{self.n_timesteps}_{self.seed}.json"


class TrainingReturns(BaseCallback):
    """Returns of all training episodes, with the agent steps when they ended."""

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.returns = list[int](), list[float]()

    def _on_step(self) -> bool:
        ended = [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        self.returns += map(float, ended)
        self.steps += [self.num_timesteps] * len(ended)
        return True


def _callback_of(arm: str, thresholds: tuple[float, float]) -> BatchSizeCallback:
    """What an arm does with the length of rollouts; a fixed one is ABS between equal bounds, which only measures."""
    if arm.startswith("fixed"):
        return ABS(int(arm.split()[1]), int(arm.split()[1]), check_every=CHECK_EVERY)
    if arm.startswith("ABS"):
        return ABS(SHORTEST, LONGEST, low=thresholds[0], high=thresholds[1], check_every=CHECK_EVERY)
    return BatchSizeSchedule.linear(SHORTEST, LONGEST)


def train(run: Run, folder: Path) -> None:
    """One training and its evaluation, unless its result is in the study's folder already."""
    if run.file(folder).exists():
        return
    th.set_num_threads(1)
    began = time.perf_counter()
    env = make_env(f"MinAtar/{run.game}-v1", n_envs=N_ENVS, seed=run.seed * N_ENVS)
    thresholds = (0.05, 0.95) if run.arm == CALIBRATES else _read_thresholds(folder, run)
    model = PQN(
        "CnnPolicy",
        env,
        n_steps=REFERENCE,
        learning_rate=5e-4,
        exploration_final_eps=0.05,
        batch_size_callback=_callback_of(run.arm, thresholds),
        policy_kwargs={"features_extractor_class": MinAtarCNN},
        seed=run.seed,
        device="cpu",
    )
    training = TrainingReturns()
    model.learn(run.n_timesteps, callback=training)
    games = make_env(f"MinAtar/{run.game}-v1", n_envs=100, seed=10_000 + run.seed, training=False)
    final, _ = evaluate_policy(model, games, n_eval_episodes=100, deterministic=True)
    assert model.batch_scaling_state is not None
    curve = _learning_curve(training.steps, training.returns, run.n_timesteps)
    history = model.batch_scaling_state["state"]["history"]
    result = {
        "run": asdict(run),
        "thresholds": thresholds,
        "final_return": float(final),  # type: ignore[arg-type]
        "curve": curve,
        "mean_training_return": float(np.mean(curve)),
        "history": history,
        "mean_size": _mean_size(history, run.n_timesteps),
        "gradient_steps": model._n_updates,
        "seconds": time.perf_counter() - began,
    }
    with atomic_write(run.file(folder)) as file:
        file.write(json.dumps(result).encode())


def _learning_curve(steps: Sequence[int], returns: Sequence[float], n_timesteps: int) -> list[float]:
    """Mean return of the episodes that ended in each of equal spans; an empty one repeats the one before."""
    bins = np.minimum(np.asarray(steps) * N_BINS // (n_timesteps + 1), N_BINS - 1)
    curve = [0.0]
    for one in range(N_BINS):
        inside = np.asarray(returns)[bins == one]
        curve.append(float(inside.mean()) if inside.size else curve[-1])
    return curve[1:]


def _mean_size(history: Sequence[dict[str, Any]], n_timesteps: int) -> float:
    """Average over agent steps of the sizes, each of which lasts until the next."""
    starts = [row["timesteps"] for row in history] + [n_timesteps]
    return float(np.average([row["size"] for row in history], weights=np.maximum(np.diff(starts), 0)))


def _calibrated(results: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Thresholds of ABS: percentiles 10 and 90 of the divergence that the reference had on the same game."""
    divergences = [row["divergence"] for result in results for row in result["history"] if "divergence" in row]
    low, high = np.quantile(divergences, [0.1, 0.9]).tolist()
    low = max(low, 1e-3)
    if high <= low:
        raise InvalidValue(f"the divergences of '{CALIBRATES}' are all near {low:g}: nothing for ABS to follow")
    return low, high


def _read_thresholds(folder: Path, run: Run) -> tuple[float, float]:
    """The thresholds of ABS on a game, made once from all runs of the reference that have ended, and never changed."""
    path = folder / f"thresholds_{run.game}_{run.n_timesteps}.json"
    if not path.exists():
        results = _read_results(folder, f"{run.game}_{CALIBRATES.replace(' ', '_')}_{run.n_timesteps}_*")
        if not results:
            raise InvalidValue(f"{run.game}: the arm '{CALIBRATES}' must run first, ABS takes its thresholds from it")
        with atomic_write(path) as file:
            file.write(json.dumps(_calibrated(results)).encode())
    low, high = json.loads(path.read_text())
    return low, high


def _read_results(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """All results whose names fit."""
    return [json.loads(file.read_text()) for file in sorted((folder / "runs").glob(f"{pattern}.json"))]


def report(folder: Path, results: Sequence[dict[str, Any]]) -> None:
    """Write ``runs.csv``, ``summary.csv`` and ``curves.png`` beside the results that have ended."""
    runs: Runs = defaultdict(list)
    for one in results:
        one.setdefault("mean_training_return", float(np.mean(one["curve"])))
        runs[one["run"]["game"], one["run"]["arm"]].append(one)
    lines = [[*list(one["run"].values())[:3], *(round(one[name], 3) for name in COLUMNS)] for one in results]
    rows = _summary(runs)
    write_csv(folder / "runs.csv", ("game", "arm", "seed", *COLUMNS), lines)
    write_csv(folder / "summary.csv", ("what", "game", "arm", "runs", "iqm", "low", "high"), rows)
    for row in rows:
        print("{:<22} {:<10} {:<14} {} runs  {:8.3f}  [{:.3f}, {:.3f}]".format(*row))
    _draw(runs, folder / "curves.png")


def _summary(runs: Runs) -> list[tuple[Any, ...]]:
    """Interquartile means with 95 % intervals, for each game and for both, relative to the reference's mean score."""
    rows = []
    for what, column in (("final greedy return", "final_return"), ("mean training return", "mean_training_return")):
        scores = {key: np.array([one[column] for one in group]) for key, group in runs.items() if group}
        there = [game for game in GAMES if (game, CALIBRATES) in scores]
        for arm in ARMS:
            own = {game: scores.get((game, arm), np.empty(0)) for game in there}
            rows += [_row(what, game, arm, values[:, None]) for game, values in own.items() if values.size]
            n = min((values.size for values in own.values()), default=0)
            if n and len(there) == len(GAMES):
                relative = [own[game][:n] / scores[game, CALIBRATES].mean() for game in GAMES]
                rows.append(_row(what, "both, rel.", arm, np.stack(relative, axis=1)))
    return rows


def _row(what: str, game: str, arm: str, scores: np.ndarray) -> tuple[Any, ...]:
    figures = (iqm(scores), *stratified_bootstrap_interval(scores, n_resamples=5_000))
    return what, game, arm, len(scores), *(round(float(figure), 3) for figure in figures)


def _draw(runs: Runs, path: Path) -> None:
    """Return, rollout length and divergence over agent steps, a row for each game; thin lines are single seeds."""
    games = [game for game in GAMES if any(runs[game, arm] for arm in ARMS)]
    figure = new_figure(13, 3.6 * len(games))
    axes = figure.subplots(len(games), 3, squeeze=False)
    for row, game in zip(axes, games, strict=True):
        for one, label in zip(row, ("training return", "rollout steps", "divergence, mean of 20"), strict=True):
            one.set(title=game, ylabel=label, xlabel="million agent steps")
            one.grid(alpha=0.3)
        for arm, color in zip(ARMS, COLORS, strict=True):
            for run in runs[game, arm]:
                history, end = run["history"], run["run"]["n_timesteps"] / 1e6
                times = (np.arange(len(run["curve"])) + 0.5) / len(run["curve"]) * end
                row[0].plot(times, run["curve"], color=color, lw=0.5, alpha=0.4)
                steps, sizes = zip(*[(at["timesteps"] / 1e6, at["size"]) for at in history], strict=True)
                row[1].step([*steps, end], [*sizes, sizes[-1]], color=color, lw=0.8, where="post")
                means = [at.get("divergence_mean", np.nan) for at in history]
                row[2].plot(steps, means, color=color, lw=0.8)
            if runs[game, arm]:
                mean = np.mean([run["curve"] for run in runs[game, arm]], axis=0)
                row[0].plot(times, mean, color=color, lw=1.8, label=arm)
        row[1].set_yscale("log", base=2)
        row[2].set_yscale("log")
    axes[0][0].legend(frameon=False, fontsize=8)
    save_figure(figure, path, dpi=110)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m sbbatch.studies.abs_minatar``: run what is missing, then write tables and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("docs/results/abs_minatar"), help="where results go")
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--n-timesteps", type=int, default=2_000_000, help="agent steps of each training")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, one thread each")
    parser.add_argument("--report-only", action="store_true", help="tables and figures of what is there")
    args = parser.parse_args(argv)
    runs = [Run(game, arm, seed, args.n_timesteps) for seed in args.seeds for arm in ARMS for game in args.games]
    for calibrates in (True, False):  # thresholds must be known before ABS runs
        part = [(run, args.folder) for run in runs if (run.arm == CALIBRATES) is calibrates]
        for ended in [] if args.report_only else side_by_side(train, part, args.jobs):
            ended.result()
    results = _read_results(args.folder, f"*_{args.n_timesteps}_*")
    report(args.folder, results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
