"""``sbbatch plot train``: training episodes of several runs, mean over seeds, one panel for each environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sbbatch.errors import InvalidValue
from sbbatch.zoo.commands.cli import Parser
from sbbatch.zoo.plot.comparison import Comparison, add_options, draw_comparisons, group_runs, report
from sbbatch.zoo.plot.curves import read_curve, running_mean

PICTURE_NAME = "training.png"
_POINTS = 60  # of a curve
_WINDOW = 50  # episodes, or a fifth of a short run
EXAMPLES = """examples:
  sbbatch plot train logs/dqn/CartPole-v1_1 logs/dqn/CartPole-v1_2 logs/dqn/CartPole-v1_3
  sbbatch plot train logs/*/MinAtar-Breakout-v1_* -o breakout.pdf

The line is the mean over runs of the running mean of the returns of training episodes, the band its 95 % bootstrap
interval over runs. Runs need no evaluations. A curve ends where the shortest of its runs does."""


def read_training(folders: Sequence[Path | str], by: Sequence[str] = ()) -> list[Comparison]:
    """
    :param folders: run folders, of any agents and environments
    :param by: see :func:`~sbbatch.zoo.plot.comparison.group_runs`
    :return: one for each agent and environment, sorted
    :raises InvalidValue: no such folder, or a run without episodes
    """
    found = []
    for (environment, agent), group in group_runs(folders, by).items():
        runs = []
        for folder in group:
            curve = read_curve(Path(folder))
            if not len(curve.episode_steps):
                raise InvalidValue(f"{folder}: no training episode has ended yet, so there is nothing to draw")
            window = min(_WINDOW, max(len(curve.episode_steps) // 5, 1))
            runs.append((curve.episode_steps, running_mean(curve.episode_returns, window)))
        first, last = max(run[0][0] for run in runs), min(run[0][-1] for run in runs)
        if first >= last:
            raise InvalidValue(f"{agent} on {environment}: the runs have no two episodes at common agent steps yet")
        steps = np.linspace(first, last, _POINTS)
        returns = np.stack([np.interp(steps, *run) for run in runs])
        found.append(Comparison(environment, agent, steps, returns, mean))
    return found


def mean(returns: np.ndarray) -> float:
    """
    :param returns: of runs, any shape
    """
    return float(returns.mean())


def main(words: Sequence[str]) -> int:
    """
    :param words: the command line after ``train``
    """
    parser = Parser(
        prog="sbbatch plot train",
        description="Draw the training episodes of several agents and seeds.",
        epilog=EXAMPLES,
    )
    add_options(parser, PICTURE_NAME)
    args = parser.parse_args(words)
    runs = read_training(args.folders, args.by)
    out = draw_comparisons(runs, args.output or Path(PICTURE_NAME), args.title, "return of training episodes")
    print(*report(runs), out, sep="\n")
    return 0
