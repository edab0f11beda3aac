"""
Two agents, or settings, side by side, as defined by Agarwal et al. (2021). Scores are arrays ``(runs, tasks)``, or
stacks of such arrays ``(..., runs, tasks)``; the two may have different numbers of runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sbbatch.analysis.metrics import iqm, percentile_interval, resampled

Comparison = Callable[[np.ndarray, np.ndarray], Any]


def probability_of_improvement(first: np.ndarray, second: np.ndarray) -> Any:
    """
    The probability that a run of the first is better than one of the second on the same task: the share of all pairs,
    ties counted half, averaged over tasks (Mann and Whitney's U).

    :param first: scores
    :param second: scores of the same tasks
    """
    one, other = first[..., :, None, :], second[..., None, :, :]
    return ((one > other) + 0.5 * (one == other)).mean(axis=(-3, -2, -1))


def iqm_difference(first: np.ndarray, second: np.ndarray) -> Any:
    """
    Interquartile mean of the first minus that of the second, each over runs and tasks together.

    :param first: scores
    :param second: scores of the same tasks
    """
    one, other = (iqm(scores.reshape(*scores.shape[:-2], -1), axis=-1) for scores in (first, second))
    return one - other


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """
    The share of all runs whose score is above each threshold: an agent's whole distribution at a look.

    :param scores: ``(runs, tasks)``
    :param thresholds: ``(thresholds,)``
    :return: ``(thresholds,)``
    """
    return (scores.ravel() > thresholds[:, None]).mean(axis=1)


def comparison_interval(
    first: np.ndarray,
    second: np.ndarray,
    comparison: Comparison,
    n_resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """
    Percentile interval of a comparison by the stratified bootstrap: runs are drawn with replacement for each task, and
    for the two sides, independently.

    :param first: scores ``(runs, tasks)``
    :param second: scores of the same tasks
    :param comparison: e.g. :func:`probability_of_improvement`; called with stacks of resampled scores
    :param n_resamples: how often
    :param level: share of the resamples inside
    :param seed: of the resampling
    :return: lower and upper end
    """
    return bootstrap_interval((first, second), comparison, n_resamples, level, seed)


def bootstrap_interval(
    sides: Sequence[np.ndarray],
    statistic: Callable[..., Any],
    n_resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """
    :func:`comparison_interval` of any number of sides.

    :param sides: scores ``(runs, tasks)`` of each
    :param statistic: called with a stack of resampled scores for each side
    :param n_resamples: how often
    :param level: share of the resamples inside
    :param seed: of the resampling
    :return: lower and upper end
    """
    rng = np.random.default_rng(seed)
    drawn = [resampled(scores, n_resamples, rng) for scores in sides]
    return percentile_interval(statistic(*drawn), level)
