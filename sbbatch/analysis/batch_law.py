"""
Batch size and learning rate as power laws of the updates per data step (Rybkin et al. 2025, "Value-Based Deep RL Scales
Predictably"; Fu et al. 2025): the more often an agent learns from each transition, the smaller its best batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t as student

from sbbatch.errors import InvalidValue, check_number, did_you_mean

_COLUMNS = ("ratio", "batch_size", "learning_rate")
_OPTIONAL = ("environment", "score")
_RESAMPLES = 1_000


@dataclass(frozen=True)
class PowerLaw:
    """
    ``value = exp(intercept of the environment) * ratio**slope``: one slope for all environments.

    :param environments: in the order of the intercepts
    :param coefficients: the slope, and the logarithm of the value at ratio 1 in each environment
    :param covariance: of the coefficients
    :param freedom: rows of the fit that are left to judge it by
    """

    environments: tuple[str, ...]
    coefficients: np.ndarray
    covariance: np.ndarray
    freedom: int

    @property
    def slope(self) -> float:
        """The exponent."""
        return float(self.coefficients[0])

    def slope_interval(self, level: float = 0.95) -> tuple[float, float]:
        """
        :param level: probability of the interval, in (0, 1)
        :return: lower and upper end, by Student's t
        """
        margin = self._quantile(level) * float(np.sqrt(self.covariance[0, 0]))
        return self.slope - margin, self.slope + margin

    def at(self, ratio: float, environment: str, level: float) -> tuple[float, float, float]:
        """
        :param ratio: updates per data step
        :param environment: one of ``environments``
        :param level: probability of the interval
        :return: the value, and the ends of the interval of the law there (not of single measurements)
        """
        row = _row(ratio, self.environments.index(environment), len(self.environments))
        middle, margin = row @ self.coefficients, self._quantile(level) * np.sqrt(row @ self.covariance @ row)
        value, low, high = np.exp([middle, middle - margin, middle + margin])
        return float(value), float(low), float(high)

    def _quantile(self, level: float) -> float:
        return float(student.ppf((1 + level) / 2, self.freedom))

    def __str__(self) -> str:
        low, high = self.slope_interval()
        return f"~ ratio^{self.slope:.2f} [{low:.2f}, {high:.2f}]"


class Suggestion(NamedTuple):
    """
    What a law says for a ratio.

    :param batch_size: samples per gradient step, rounded
    :param learning_rate: of Adam, or of what the law was fitted on
    :param batch_sizes: interval of the batch size
    :param learning_rates: interval of the learning rate
    :param inside: whether the ratio lies among those of the fit; else it is an extrapolation
    """

    batch_size: int
    learning_rate: float
    batch_sizes: tuple[float, float]
    learning_rates: tuple[float, float]
    inside: bool


@dataclass(frozen=True)
class BatchLaw:
    """
    The best batch size and the best learning rate for a ratio of gradient steps to agent steps, the "updates to data"
    ratio: ``gradient_steps / (train_freq * n_envs)`` of our agents. ::

        law = BatchLaw.fit({"ratio": [0.25, 1, 4], "batch_size": [512, 256, 256], "learning_rate": [4e-4, 2e-4, 2e-4]})
        law.suggest(2).batch_size

    Both are fitted as straight lines through the logarithms, by least squares, with one slope for all environments and
    an intercept for each, as in the authors' code. It was found with SAC and BRO on continuous control, where batches
    have hundreds of samples; whether it holds for an agent of yours is what the interval of its slope says.

    :param batch_size: law of the batch size
    :param learning_rate: law of the learning rate
    :param ratios: smallest and largest of the fit
    """

    batch_size: PowerLaw
    learning_rate: PowerLaw
    ratios: tuple[float, float]

    @classmethod
    def fit(cls, table: Mapping[str, Sequence[Any]] | Any, seed: int = 0) -> BatchLaw:
        """
        Fit the laws to what was best at some ratios, or to the runs of a tuning study.

        Of runs, the best mean score decides which batch size and learning rate are best at a ratio. As another one
        might have won with other seeds, this is done for 1,000 resamples of the runs of each setting: the logarithms of
        what won are averaged, and how the coefficients scatter is added to the uncertainty of the fit.

        :param table: a mapping of columns, or a pandas table: ``ratio``, ``batch_size``, ``learning_rate``, if there
            are several also ``environment``; and ``score``, if rows are runs and not what was best
        :param seed: of the resampling
        :raises InvalidValue: a column is missing or has something else than positive numbers, or there are too few
            ratios to judge a line by (three in one environment)
        """
        columns = {str(name): list(table[name]) for name in table if name in (*_COLUMNS, *_OPTIONAL)}
        for name in _COLUMNS:
            if name not in columns:
                raise InvalidValue(f"BatchLaw: the table has no column '{name}'{did_you_mean(name, map(str, table))}")
            for value in columns[name]:
                check_number(f"BatchLaw: {name}", value, 0.0, open_low=True)
        names = [str(name) for name in columns.get("environment", [""] * len(columns["ratio"]))]
        environments = tuple(dict.fromkeys(names))
        keys = list(zip(map(environments.index, names), map(float, columns["ratio"]), strict=True))
        values = np.log(np.array([columns["batch_size"], columns["learning_rate"]], dtype=float).reshape(2, -1)).T
        ratios = [ratio for _, ratio in keys]
        n_rows = len(set(keys)) if "score" in columns else len(keys)
        if n_rows < len(environments) + 2 or len(set(ratios)) < 2:
            raise InvalidValue(
                f"BatchLaw: got {n_rows} ratios in {len(environments)} environments, which is too few to judge a line "
                f"by; expected at least {len(environments) + 2}, not all the same"
            )
        scatter: np.ndarray | None = None
        if "score" in columns:
            resampled = _winners(keys, values, np.array(columns["score"], dtype=float), np.random.default_rng(seed))
            keys, values = list(resampled), np.array([won.mean(axis=0) for won in resampled.values()])
            scatter = np.stack(list(resampled.values()), axis=1)  # (resamples, ratios, 2)
        rows = np.array([_row(ratio, place, len(environments)) for place, ratio in keys])
        size, rate = (
            _fit(environments, rows, values[:, i], None if scatter is None else scatter[:, :, i]) for i in range(2)
        )
        return cls(size, rate, (min(ratios), max(ratios)))

    def suggest(self, ratio: float, environment: str | None = None, level: float = 0.95) -> Suggestion:
        """
        :param ratio: gradient steps per agent step
        :param environment: one of those of the fit (``None``: the only one)
        :param level: probability of the intervals, in (0, 1)
        :raises InvalidValue: a ratio that is not positive, or no such environment
        """
        check_number("ratio", ratio, 0.0, open_low=True)
        known = self.batch_size.environments
        environment = known[0] if environment is None and len(known) == 1 else environment
        if environment not in known:
            raise InvalidValue(f"environment: got {environment!r}, expected one of {', '.join(known)}")
        (size, *sizes), (rate, *rates) = (
            law.at(ratio, environment, level) for law in (self.batch_size, self.learning_rate)
        )
        inside = self.ratios[0] <= ratio <= self.ratios[1]
        return Suggestion(max(round(size), 1), rate, (sizes[0], sizes[1]), (rates[0], rates[1]), inside)


def _row(ratio: float, place: int, n_environments: int) -> np.ndarray:
    return np.array([np.log(ratio), *(float(i == place) for i in range(n_environments))])


def _fit(environments: tuple[str, ...], rows: np.ndarray, values: np.ndarray, scatter: np.ndarray | None) -> PowerLaw:
    """Least squares of values ``(rows,)``; ``scatter`` are resampled ones ``(resamples, rows)``."""
    solve, freedom = np.linalg.pinv(rows), len(rows) - rows.shape[1]
    coefficients = solve @ values
    residual = values - rows @ coefficients
    covariance = float(residual @ residual) / freedom * np.linalg.inv(rows.T @ rows)
    if scatter is not None:
        covariance = covariance + np.cov(scatter @ solve.T, rowvar=False)
    return PowerLaw(environments, coefficients, covariance, freedom)


def _winners(
    keys: Sequence[tuple[int, float]], values: np.ndarray, scores: np.ndarray, rng: np.random.Generator
) -> dict[tuple[int, float], np.ndarray]:
    """What was best at each place and ratio in each resample: ``(resamples, 2)``."""
    cells: dict[tuple[int, float], dict[tuple[float, ...], list[float]]] = {}
    for key, value, score in zip(keys, values, scores, strict=True):
        cells.setdefault(key, {}).setdefault(tuple(map(float, value)), []).append(float(score))
    winners = {}
    for key, of in cells.items():
        drawn = [rng.choice(runs, size=(_RESAMPLES, len(runs))).mean(axis=1) for runs in of.values()]
        winners[key] = np.array(list(of))[np.argmax(drawn, axis=0)]
    return winners
