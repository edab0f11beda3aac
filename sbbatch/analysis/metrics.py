"""
Aggregate scores and their intervals, as defined by Agarwal et al. (2021, "Deep RL at the edge of the statistical
precipice"). Scores are arrays ``(runs, tasks)``, normalised so that tasks can be compared.

scipy is imported inside functions, so that importing this module stays cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

_AT_ONCE = 1_000  # resamples, for all of them together might not fit in memory
Statistic = Callable[..., Any]  # of an array, along an axis


def iqm(scores: np.ndarray, axis: int | None = None) -> Any:
    """
    Interquartile mean: the mean without the lowest and the highest quarter of the values.

    :param scores: ``(runs, tasks)``, or any shape
    :param axis: along which (``None``: of all values together)
    :return: a number, or an array without that axis
    """
    from scipy.stats import trim_mean

    return trim_mean(scores, 0.25, axis=axis)


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
    :param statistic: e.g. :func:`iqm` or ``numpy.mean``, called with arrays and an axis
    :param n_resamples: how often
    :param level: share of the resamples inside
    :param seed: of the resampling
    :return: lower and upper end
    """
    rng = np.random.default_rng(seed)
    values = []
    for start in range(0, n_resamples, _AT_ONCE):
        n = min(_AT_ONCE, n_resamples - start)
        values.append(statistic(resampled(scores, n, rng).reshape(n, -1), axis=1))
    return percentile_interval(np.concatenate(values), level)


def resampled(scores: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` times as many runs as there are, drawn with replacement for each task: ``(n, runs, tasks)``."""
    return np.take_along_axis(scores[None], rng.integers(len(scores), size=(n, *scores.shape)), axis=1)


def percentile_interval(values: np.ndarray, level: float) -> tuple[float, float]:
    """Between which this share of the values lies, in the middle."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def student_interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """
    Mean and half-width of its interval by Student's t.

    :param values: ``(..., n)``; of one value the half-width is NaN: nobody knows
    :param level: confidence
    :return: both ``(...)``
    """
    from scipy.stats import t

    n = values.shape[-1]
    if n < 2:
        return values.mean(axis=-1), np.full(values.shape[:-1], np.nan)
    return values.mean(axis=-1), t.ppf((1 + level) / 2, n - 1) * values.std(axis=-1, ddof=1) / np.sqrt(n)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """
    Mean of each value and of those before it.

    :param values: ``(n,)``
    :param window: how many, at most
    :return: ``(n,)``
    """
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=float)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def smoothing_window(n_episodes: int) -> int:
    """How many training episodes a running mean is over: 20; a fifth of a short run, a fortieth of a long one."""
    return max(n_episodes // 40, min(20, n_episodes // 5), 1)


def mean_and_deviation(values: Sequence[float]) -> str:
    """Mean and sample standard deviation, for people; one value has none."""
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def describe_returns(returns: Sequence[float]) -> str:
    """:func:`mean_and_deviation` of raw returns of episodes."""
    return f"return {mean_and_deviation(returns)} ({len(returns)} episode{'s' if len(returns) != 1 else ''})"
