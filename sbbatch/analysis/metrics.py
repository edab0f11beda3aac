"""
Aggregate scores and their intervals, as defined by Agarwal et al. (2021, "Deep RL at the edge of the statistical
precipice"). Scores are arrays ``(runs, tasks)``, normalised so that tasks can be compared.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Statistic = Callable[[np.ndarray], float]


def iqm(scores: np.ndarray) -> float:
    """
    Interquartile mean: all values together, without the lowest and the highest quarter of them.

    :param scores: ``(runs, tasks)``, or any shape
    """
    ordered = np.sort(scores, axis=None)
    cut = int(0.25 * ordered.size)
    return float(ordered[cut : ordered.size - cut].mean())


def stratified_bootstrap_interval(
    scores: np.ndarray,
    statistic: Statistic = iqm,
    n_resamples: int = 50_000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """
    Percentile interval of a statistic; for each task runs are drawn with replacement, independently of other tasks.

    With three runs it can only reproduce three values and is too narrow: name the number of runs beside it.

    :param scores: ``(runs, tasks)``
    :param statistic: of an array of the same shape
    :param n_resamples: how often
    :param level: share of the resamples inside
    :param seed: of the resampling
    :return: lower and upper end
    """
    rng = np.random.default_rng(seed)
    n_runs, n_tasks = scores.shape
    values = np.empty(n_resamples)
    for i in range(n_resamples):
        drawn = rng.integers(n_runs, size=(n_runs, n_tasks))
        values[i] = statistic(np.take_along_axis(scores, drawn, axis=0))
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
