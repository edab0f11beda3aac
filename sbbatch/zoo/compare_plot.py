"""``sbbatch plot compare``: evaluations of several agents, mean over seeds, one panel for each environment."""

from __future__ import annotations

import argparse
import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.analysis.metrics import iqm, stratified_bootstrap_interval
from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write, output_file
from sbbatch.zoo.cli import Parser
from sbbatch.zoo.plot import arguments_of, environment_of, new_figure, read_curve

PICTURE_NAME = "comparison.png"
COLUMNS = ("environment", "agent", "timesteps", "runs", "iqm", "low", "high")
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#8B4513")
_RESAMPLES = 2_000
_LAST = 3  # evaluations that the final score averages


@dataclass(frozen=True)
class Comparison:
    """
    Evaluations of one agent in one environment.

    :param environment: id
    :param agent: name of the algorithm
    :param timesteps: agent steps of the evaluations that all runs have ``(evaluations,)``
    :param returns: mean raw return of the games of each ``(runs, evaluations)``
    """

    environment: str
    agent: str
    timesteps: np.ndarray
    returns: np.ndarray

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Interquartile mean over runs, and its 95 % bootstrap interval, at each evaluation."""
        columns = [self.returns[:, [i]] for i in range(self.returns.shape[1])]
        ends = np.array([stratified_bootstrap_interval(one, n_resamples=_RESAMPLES) for one in columns])
        return np.array([iqm(one) for one in columns]), ends[:, 0], ends[:, 1]

    def final(self) -> np.ndarray:
        """Score of each run: the mean of its last evaluations ``(runs,)``."""
        return self.returns[:, -_LAST:].mean(axis=1)


def read_runs(folders: Sequence[Path | str]) -> list[Comparison]:
    """
    :param folders: run folders, of any agents and environments
    :return: one for each pair of them, sorted
    :raises InvalidValue: no such folder, or a run without evaluations
    """
    found: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InvalidValue(f"no such run folder: {folder}")
        curve, path = read_curve(folder), folder.resolve()
        if not len(curve.evaluation_steps):
            raise InvalidValue(f"{folder}: no evaluation has ended; train with --eval-freq")
        agent = str(arguments_of(path).get("algo") or path.parent.name)
        found[environment_of(path), agent].append((curve.evaluation_steps, curve.evaluation_returns.mean(axis=1)))
    return [_common(environment, agent, runs) for (environment, agent), runs in sorted(found.items())]


def _common(environment: str, agent: str, runs: list[tuple[np.ndarray, np.ndarray]]) -> Comparison:
    """The evaluations that all runs have."""
    n = min(len(steps) for steps, _ in runs)
    steps = runs[0][0][:n]
    if any(not np.array_equal(steps, other[:n]) for other, _ in runs):
        raise InvalidValue(f"{agent} on {environment}: the runs were evaluated at different steps; compare equal ones")
    return Comparison(environment, agent, steps, np.stack([returns[:n] for _, returns in runs]))


def plot_comparison(folders: Sequence[Path | str], out: Path | None = None, title: str | None = None) -> Path:
    """
    Draw the interquartile mean over seeds with its 95 % bootstrap interval, and write the numbers beside the picture.

    :param folders: run folders
    :param out: the PNG, PDF or SVG to write, with a CSV file of the same name beside it
    :param title: above the picture
    :return: the picture
    :raises UserError: no such folder, nothing to draw, or matplotlib is missing
    """
    out = output_file(out or Path(PICTURE_NAME), ".png", ".pdf", ".svg")
    comparisons = read_runs(folders)
    environments = sorted({one.environment for one in comparisons})
    agents = sorted({one.agent for one in comparisons})
    figure = new_figure(5.2 * len(environments), 4.2)
    for axes, environment in zip(figure.subplots(1, len(environments), squeeze=False)[0], environments, strict=True):
        for one in comparisons:
            if one.environment == environment:
                _draw(axes, one, _COLORS[agents.index(one.agent) % len(_COLORS)])
        axes.set_title(environment, parse_math=False)
        axes.set(xlabel="agent steps", ylabel="return of greedy games")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    if title:
        figure.suptitle(title, parse_math=False)
    with atomic_write(out) as file:
        figure.savefig(file, dpi=120, format=out.suffix[1:].lower())
    with atomic_write(out.with_suffix(".csv")) as file:
        file.write(table(comparisons).encode())
    return out


def _draw(axes: Any, one: Comparison, color: str) -> None:
    mean, low, high = one.curve()
    n_runs = len(one.returns)
    label = f"{one.agent} ({n_runs} {'run' if n_runs == 1 else 'runs'})"
    axes.plot(one.timesteps, mean, "o-", color=color, markersize=3, label=label)
    axes.fill_between(one.timesteps, low, high, color=color, alpha=0.15, linewidth=0)


def table(comparisons: Sequence[Comparison]) -> str:
    """
    :param comparisons: what was read
    :return: CSV of ``COLUMNS``
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in comparisons:
        for step, *figures in zip(one.timesteps, *one.curve(), strict=True):
            rounded = [round(float(figure), 3) for figure in figures]
            writer.writerow([one.environment, one.agent, int(step), len(one.returns), *rounded])
    return text.getvalue()


def report(comparisons: Sequence[Comparison]) -> list[str]:
    """
    :param comparisons: what was read
    :return: one line for each, the best of an environment first: mean of the last evaluations, and every run's
    """
    ordered = sorted(comparisons, key=lambda one: (one.environment, -one.final().mean()))
    return [
        f"{one.environment:<28} {one.agent:<16} {one.final().mean():10.1f}   runs: "
        + ", ".join(f"{score:.1f}" for score in one.final())
        for one in ordered
    ]


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = Parser(prog="sbbatch plot compare", description="Compare the evaluations of several agents and seeds.")
    parser.add_argument("folders", nargs="+", type=Path, help="run folders, e.g. logs/*/MinAtar-Breakout-v1_*")
    parser.add_argument("-o", "--output", type=Path, help=f"PNG, PDF or SVG; a CSV beside it (default: {PICTURE_NAME})")
    parser.add_argument("--title", help="above the picture")
    return parser


def main(words: Sequence[str]) -> int:
    """
    :param words: the command line after ``compare``
    """
    args = make_parser().parse_args(words)
    out = plot_comparison(args.folders, args.output, args.title)
    print(*report(read_runs(args.folders)), out, sep="\n")
    return 0
