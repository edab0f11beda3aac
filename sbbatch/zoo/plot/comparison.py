"""``sbbatch plot compare``: evaluations of several agents over seeds, one panel for each environment."""

from __future__ import annotations

import argparse
import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.analysis.metrics import Statistic, iqm, stratified_bootstrap_interval
from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write, output_file
from sbbatch.zoo.commands.cli import Parser
from sbbatch.zoo.plot.curves import (
    arguments_of,
    environment_of,
    new_figure,
    read_curve,
    require_run_folder,
    settings_of,
)

PICTURE_NAME = "comparison.png"
EXAMPLES = """examples:
  sbbatch plot compare logs/*/MinAtar-Breakout-v1_* -o breakout.png
  sbbatch plot compare logs/qrdqn/ALE-Pong-v5_* --by batch_size

Runs of one agent in one environment are its seeds, told apart further by the settings that --by names. The line is the
interquartile mean over runs at each evaluation, the band its 95 % bootstrap interval, which is too narrow with three
runs or fewer."""
COLUMNS = ("environment", "agent", "timesteps", "runs")
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#8B4513")
_RESAMPLES = 2_000
_LAST = 3  # evaluations that the final score averages
_MARKED = 40  # points that have room for a mark each


@dataclass(frozen=True)
class Comparison:
    """
    Returns of the runs of one agent in one environment.

    :param environment: id
    :param agent: name of the algorithm, with the settings that tell it from others
    :param timesteps: agent steps that all runs have a return at, e.g. of evaluations ``(points,)``
    :param returns: mean raw return there ``(runs, points)``
    :param statistic: what is drawn of the runs
    """

    environment: str
    agent: str
    timesteps: np.ndarray
    returns: np.ndarray
    statistic: Statistic = iqm

    @cached_property
    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The statistic over runs, and its 95 % bootstrap interval, at each point."""
        columns = [self.returns[:, [i]] for i in range(self.returns.shape[1])]
        ends = np.array([stratified_bootstrap_interval(one, self.statistic, _RESAMPLES) for one in columns])
        return np.array([self.statistic(one) for one in columns]), ends[:, 0], ends[:, 1]

    def final(self) -> np.ndarray:
        """Score of each run: the mean of its last evaluations ``(runs,)``."""
        return self.returns[:, -_LAST:].mean(axis=1)


def group_runs(folders: Sequence[Path | str], by: Sequence[str] = ()) -> dict[tuple[str, str], list[Path]]:
    """
    Folders by environment and agent.

    :param folders: run folders, of any agents and environments
    :param by: settings that tell agents apart as well, e.g. ``batch_size``
    :return: folders of each pair, sorted by it
    :raises InvalidValue: no such folder, or a setting that no run was given
    """
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    seen: set[Path] = set()
    for folder in map(Path, folders):
        require_run_folder(folder)
        path = folder.resolve()
        if path in seen:
            raise InvalidValue(f"{folder} is given twice, and would count as two seeds; leave it out once")
        seen.add(path)
        given = settings_of(path)
        name = str(arguments_of(path).get("algo") or path.parent.name)
        parts = [f"{key} {given.get(key, 'default')}" for key in by]
        groups[environment_of(path), ", ".join([name, *parts])].append(folder)
    for key in by:
        if not any(key in settings_of(Path(folder).resolve()) for folder in folders):
            raise InvalidValue(f"--by: none of the runs sets {key} in its config.yml")
    return dict(sorted(groups.items()))


def read_runs(folders: Sequence[Path | str], by: Sequence[str] = ()) -> list[Comparison]:
    """
    :param folders: run folders, of any agents and environments
    :param by: see :func:`group_runs`
    :return: one for each pair of them, sorted
    :raises InvalidValue: no such folder, or a run without evaluations
    """
    found = []
    for (environment, agent), group in group_runs(folders, by).items():
        runs = []
        for folder in group:
            curve = read_curve(folder)
            if not len(curve.evaluation_steps):
                raise InvalidValue(f"{folder}: no evaluation has ended; train with --eval-freq")
            runs.append((curve.evaluation_steps, curve.evaluation_returns.mean(axis=1)))
        found.append(_common(environment, agent, runs))
    return found


def _common(environment: str, agent: str, runs: list[tuple[np.ndarray, np.ndarray]]) -> Comparison:
    """The evaluations that all runs have."""
    n = min(len(steps) for steps, _ in runs)
    steps = runs[0][0][:n]
    if any(not np.array_equal(steps, other[:n]) for other, _ in runs):
        raise InvalidValue(f"{agent} on {environment}: the runs were evaluated at different steps; compare equal ones")
    return Comparison(environment, agent, steps, np.stack([returns[:n] for _, returns in runs]))


def draw_comparisons(comparisons: Sequence[Comparison], out: Path, title: str | None, label: str) -> Path:
    """
    One panel for each environment, one colour for each agent, and the numbers beside the picture.

    :param comparisons: what was read
    :param out: the PNG, PDF or SVG to write, with a CSV file of the same name beside it
    :param title: above the picture
    :param label: what the returns are
    :return: the picture
    :raises UserError: matplotlib is missing, or the file cannot be written
    """
    out = output_file(out, ".png", ".pdf", ".svg")
    environments = sorted({one.environment for one in comparisons})
    agents = sorted({one.agent for one in comparisons})
    figure = new_figure(5.2 * len(environments), 4.2)
    for axes, environment in zip(figure.subplots(1, len(environments), squeeze=False)[0], environments, strict=True):
        for one in comparisons:
            if one.environment == environment:
                _draw(axes, one, _COLORS[agents.index(one.agent) % len(_COLORS)])
        axes.set_title(environment, parse_math=False)
        axes.set(xlabel="agent steps", ylabel=label)
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
    mean, low, high = one.curve
    n_runs = len(one.returns)
    label = f"{one.agent} ({n_runs} {'run' if n_runs == 1 else 'runs'})"
    axes.plot(one.timesteps, mean, "o-" if len(mean) <= _MARKED else "-", color=color, markersize=3, label=label)
    axes.fill_between(one.timesteps, low, high, color=color, alpha=0.15, linewidth=0)


def table(comparisons: Sequence[Comparison]) -> str:
    """
    :param comparisons: what was read
    :return: CSV of ``COLUMNS``, the statistic by its name, and its interval
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, comparisons[0].statistic.__name__, "low", "high"])
    for one in comparisons:
        for step, *figures in zip(one.timesteps, *one.curve, strict=True):
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
    parser = Parser(
        prog="sbbatch plot compare",
        description="Compare the evaluations of several agents and seeds.",
        epilog=EXAMPLES,
    )
    add_options(parser, PICTURE_NAME)
    return parser


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """
    The options of pictures of several runs.

    :param parser: of the command
    :param name: of the picture, if none is given
    """
    parser.add_argument("folders", nargs="+", type=Path, help="run folders, e.g. logs/*/MinAtar-Breakout-v1_*")
    parser.add_argument("-o", "--output", type=Path, help=f"PNG, PDF or SVG; a CSV beside it (default: {name})")
    parser.add_argument("--by", nargs="+", default=[], metavar="SETTING", help="also tell runs apart by these settings")
    parser.add_argument("--title", help="above the picture")


def main(words: Sequence[str]) -> int:
    """
    :param words: the command line after ``compare``
    """
    args = make_parser().parse_args(words)
    runs = read_runs(args.folders, args.by)
    out = draw_comparisons(runs, args.output or Path(PICTURE_NAME), args.title, "return of greedy games")
    print(*report(runs), out, sep="\n")
    return 0
