"""
Rules that decide the claim of a study. They are part of the study's file, so that the commit before its final runs
shows what was going to be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sbbatch.analysis.comparison import comparison_interval, iqm_difference, probability_of_improvement
from sbbatch.analysis.metrics import iqm

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


Rule = Compare | BestInside
