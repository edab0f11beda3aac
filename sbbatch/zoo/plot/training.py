"""Training episodes of several runs: the mean over seeds of running means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sbbatch.errors import InvalidValue
from sbbatch.zoo.plot.comparison import Comparison, group_runs
from sbbatch.zoo.plot.runs import running_mean

_POINTS = 60  # of a curve
_WINDOW = 50  # episodes, or a fifth of a short run


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
        for folder, curve in [(run.folder, run.curve) for run in group]:
            if not len(curve.episode_steps):
                raise InvalidValue(f"{folder}: no training episode has ended yet, so there is nothing to draw")
            window = min(_WINDOW, max(len(curve.episode_steps) // 5, 1))
            runs.append((curve.episode_steps, running_mean(curve.episode_returns, window)))
        first, last = max(run[0][0] for run in runs), min(run[0][-1] for run in runs)
        if first >= last:
            raise InvalidValue(f"{agent} on {environment}: the runs have no two episodes at common agent steps yet")
        steps = np.linspace(first, last, _POINTS)
        returns = np.stack([np.interp(steps, *run) for run in runs])
        found.append(Comparison(environment, agent, steps, returns, np.mean))
    return found
