"""
Rules that decide the claim of a study. They are part of the study's file, so that the commit before its final runs
shows what was going to be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sbbatch.analysis.batch_law import BatchLaw
from sbbatch.analysis.comparison import (
    bootstrap_interval,
    comparison_interval,
    iqm_difference,
    probability_of_improvement,
)
from sbbatch.analysis.metrics import iqm
from sbbatch.errors import InvalidValue

# From an arm and a column of `runs.csv` to scores ``(seeds, games)`` on the games' own scales.
Scores = Callable[[str, str], np.ndarray]
NOT_DECIDED = "not decided at this budget"


@dataclass(frozen=True)
class Compare:
    """
    Is one arm better than another? By the 95 % interval of the difference of their interquartile means over all games:
    equal if it lies within a margin around zero, else better or worse if zero lies outside, else not decided.

    :param first: the arm that the claim speaks for
    :param second: its rival
    :param better: what it means if the first is better
    :param worse: what it means if the second is
    :param equal: what it means if there is no difference to speak of
    :param score: the column that counts
    :param margin: of equality, as a share of the second arm's interquartile mean
    :param min_seeds: with fewer the interval is too narrow to decide anything
    """

    first: str
    second: str
    better: str
    worse: str
    equal: str
    score: str = "final_return"
    margin: float = 0.1
    min_seeds: int = 5

    def __str__(self) -> str:
        return f"{self.first} against {self.second}, {self.score}: '{self.better}', '{self.worse}' or '{self.equal}'"

    @property
    def arms(self) -> tuple[str, ...]:
        """Both."""
        return self.first, self.second

    def decide(self, scores: Scores) -> str:
        """
        :param scores: of the runs that have ended
        :return: one line: what was compared, the verdict, and the numbers
        """
        pair = scores(self.first, self.score), scores(self.second, self.score)
        n, name = min(map(len, pair)), f"{self.first} against {self.second}, {self.score}"
        if not n:
            return f"{name}: {NOT_DECIDED} (no seed has ended on all games)"
        low, high = comparison_interval(*pair, iqm_difference)
        worst, best = comparison_interval(*pair, probability_of_improvement)
        numbers = f"difference of IQM {iqm_difference(*pair):+.3f} [{low:+.3f}, {high:+.3f}]"
        chance = f"P(better) {probability_of_improvement(*pair):.2f} [{worst:.2f}, {best:.2f}]"
        verdict = self._verdict(low, high, abs(iqm(pair[1])) * self.margin)
        if n < self.min_seeds:
            verdict = f"{NOT_DECIDED}, which takes {self.min_seeds} seeds"
        return f"{name}: {verdict} ({numbers}, {chance}, {n} seeds)"

    def _verdict(self, low: float, high: float, margin: float) -> str:
        if -margin <= low and high <= margin:  # none to speak of, even if it is certain
            return self.equal
        return self.better if low > 0 else self.worse if high < 0 else NOT_DECIDED


@dataclass(frozen=True)
class BestInside:
    """
    Which arm of an ordered row is best, and is it inside? A best one at the edge means that the row is too short.

    :param name: of the row, e.g. ``"batch 8"``
    :param arms: in the order of what varies, e.g. the learning rate
    :param score: the column that counts, averaged over games
    """

    name: str
    arms: Sequence[str]
    score: str = "final_return"

    def __str__(self) -> str:
        return f"{self.name}, {self.score}: which of {', '.join(self.arms)} is best, and is it inside?"

    def decide(self, scores: Scores) -> str:
        """
        :param scores: of the runs that have ended
        :return: one line: the best arm, whether it is inside, and the numbers
        """
        values = {arm: scores(arm, self.score) for arm in self.arms}
        if not all(map(len, values.values())):
            return f"{self.name}: {NOT_DECIDED} (an arm has no seed that has ended on all games)"
        means = {arm: float(value.mean()) for arm, value in values.items()}
        best = max(means, key=means.__getitem__)
        edge = "" if best in self.arms[1:-1] else ", at the edge: widen the row"
        return f"{self.name}: best is {best}{edge} ({', '.join(f'{arm} {mean:.3f}' for arm, mean in means.items())})"


@dataclass(frozen=True)
class Interaction:
    """
    Is the gain of one pair of arms larger than that of another? By the 95 % interval of the difference of their
    differences of interquartile means, for "it helps there more than here" is a claim about that and not about two
    verdicts.

    :param gain: the pair that the claim speaks for, e.g. batch 8 and batch 32 of a wide network
    :param rival: the pair it is held against, e.g. those of a narrow one
    :param larger: what it means if the first gain is larger
    :param smaller: what it means if the second is
    :param score: the column that counts
    :param min_seeds: with fewer the interval is too narrow to decide anything
    """

    gain: tuple[str, str]
    rival: tuple[str, str]
    larger: str
    smaller: str
    score: str = "final_return"
    min_seeds: int = 5

    def __str__(self) -> str:
        return f"{self._name}: '{self.larger}' or '{self.smaller}'"

    @property
    def arms(self) -> tuple[str, ...]:
        """All that it looks at."""
        return (*self.gain, *self.rival)

    @property
    def _name(self) -> str:
        (a, b), (c, d) = self.gain, self.rival
        return f"({a} - {b}) against ({c} - {d}), {self.score}"

    def decide(self, scores: Scores) -> str:
        """
        :param scores: of the runs that have ended
        :return: one line: what was compared, the verdict, and the numbers
        """
        found = [scores(arm, self.score) for arm in self.arms]
        n = min(map(len, found))
        if not n:
            return f"{self._name}: {NOT_DECIDED} (no seed has ended on all games)"
        difference = iqm_difference(*found[:2]) - iqm_difference(*found[2:])
        low, high = bootstrap_interval(found, lambda a, b, c, d: iqm_difference(a, b) - iqm_difference(c, d))
        verdict = self.larger if low > 0 else self.smaller if high < 0 else NOT_DECIDED
        if n < self.min_seeds:
            verdict = f"{NOT_DECIDED}, which takes {self.min_seeds} seeds"
        return f"{self._name}: {verdict} (difference of gains {difference:+.3f} [{low:+.3f}, {high:+.3f}], {n} seeds)"


@dataclass(frozen=True)
class MoreGames:
    """
    Is one arm better than another on most games, by however little? By the 95 % interval of the share of games on which
    its mean return is higher: decided if a half lies outside.

    :param first: the arm that the claim speaks for
    :param second: its rival
    :param score: the column that counts
    """

    first: str
    second: str
    score: str = "final_return"

    def __str__(self) -> str:
        return f"{self._name}: most, or fewer than half?"

    @property
    def arms(self) -> tuple[str, ...]:
        """Both."""
        return self.first, self.second

    @property
    def _name(self) -> str:
        return f"games on which {self.first} is ahead of {self.second}, {self.score}"

    def decide(self, scores: Scores) -> str:
        """
        :param scores: of the runs that have ended
        :return: one line: the share, and whether it is most
        """
        pair = [scores(arm, self.score) for arm in self.arms]
        if not min(map(len, pair)):
            return f"{self._name}: {NOT_DECIDED} (no seed has ended on all games)"
        low, high = bootstrap_interval(pair, _share_of_games)
        verdict = "most" if low > 0.5 else "fewer than half" if high < 0.5 else NOT_DECIDED
        n_games = pair[0].shape[1]
        return f"{self._name}: {verdict} ({_share_of_games(*pair):.2f} [{low:.2f}, {high:.2f}] of {n_games})"


@dataclass(frozen=True)
class Cheaper:
    """
    How much of the time of another arm does one take? The ratio of their mean wall times with its 95 % interval. It
    means something if both were run on one machine, as many at a time.

    :param first: the arm that the claim speaks for
    :param second: its rival
    """

    first: str
    second: str

    def __str__(self) -> str:
        return f"{self._name}: less than 1, or more?"

    @property
    def arms(self) -> tuple[str, ...]:
        """Both."""
        return self.first, self.second

    @property
    def _name(self) -> str:
        return f"time of {self.first} as a share of that of {self.second}"

    def decide(self, scores: Scores) -> str:
        """
        :param scores: of the runs that have ended
        :return: one line: the ratio, and what it says
        """
        pair = [scores(arm, "seconds") for arm in self.arms]
        if not min(map(len, pair)):
            return f"{self._name}: {NOT_DECIDED} (no seed has ended on all games)"
        low, high = bootstrap_interval(pair, _ratio_of_means)
        verdict = "cheaper" if high < 1 else "dearer" if low > 1 else NOT_DECIDED
        return f"{self._name}: {verdict} ({_ratio_of_means(*pair):.2f} [{low:.2f}, {high:.2f}])"


@dataclass(frozen=True)
class RatioLaw:
    """
    Does the best batch size fall as updates become more frequent? By the slope of :class:`~sbbatch.analysis.BatchLaw`,
    fitted to the scores of all arms, which choose the best batch size and learning rate at each ratio.

    :param settings: of each arm: updates per data step, batch size and learning rate
    :param score: the column that counts
    """

    settings: Mapping[str, tuple[float, int, float]]
    score: str = "final_return"

    def __str__(self) -> str:
        return "law of the batch size, fitted to all arms: does the best one fall as updates become more frequent?"

    @property
    def arms(self) -> tuple[str, ...]:
        """All that it looks at."""
        return tuple(self.settings)

    def decide(self, scores: Scores) -> str:
        """
        :param scores: of the runs that have ended
        :return: one line: the verdict, and both slopes
        """
        rows = []
        for arm, (ratio, batch_size, learning_rate) in self.settings.items():
            for seed in scores(arm, self.score):
                for game, score in enumerate(seed):
                    rows.append((str(game), ratio, batch_size, learning_rate, float(score)))
        names = ("environment", "ratio", "batch_size", "learning_rate", "score")
        try:
            law = BatchLaw.fit({name: [row[i] for row in rows] for i, name in enumerate(names)})
        except InvalidValue as error:
            return f"law of the batch size: {NOT_DECIDED} ({error})"
        low, high = law.batch_size.slope_interval()
        verdict = "falls with the ratio" if high < 0 else "grows with the ratio" if low > 0 else NOT_DECIDED
        return f"law of the batch size: {verdict} (batch size {law.batch_size}; learning rate {law.learning_rate})"


def _share_of_games(first: np.ndarray, second: np.ndarray) -> Any:
    return (first.mean(axis=-2) > second.mean(axis=-2)).mean(axis=-1)


def _ratio_of_means(first: np.ndarray, second: np.ndarray) -> Any:
    return first.mean(axis=(-2, -1)) / second.mean(axis=(-2, -1))


Rule = Compare | BestInside | Interaction | MoreGames | Cheaper | RatioLaw
