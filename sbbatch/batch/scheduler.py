"""From a sequence of divergences to a sequence of batch sizes: the controller of Adaptive Batch Scaling."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Annotated, Any, Literal

from sbbatch.arguments import Count, Positive, Within, checked
from sbbatch.errors import InvalidValue, check_number

# How far a divergence is from `low` (0) to `high` (1). The authors released the first and named the other two;
# `exp` is our reading of its name, the mirror image of `log`.
INTERPOLATIONS: dict[str, Callable[[float, float, float], float]] = {
    "log": lambda divergence, low, high: math.log(divergence / low) / math.log(high / low),
    "linear": lambda divergence, low, high: (divergence - low) / (high - low),
    "exp": lambda divergence, low, high: ((high / low) ** ((divergence - low) / (high - low)) - 1) / (high / low - 1),
}
Kind = Literal["log", "linear", "exp"]
Rounding = Literal["exact", "paper"]
Weight = Annotated[float, Within(0.0, 1.0, open_low=True)]


class AdaptiveBatchScheduler:
    """
    The controller of Adaptive Batch Scaling (Park 2026; the authors' released code)::

        alpha  = interpolation(clip(mean of the last divergences, low, high))     in [0, 1]
        target = max_size - alpha * (max_size - min_size)
        size   = (1 - ema) * size + ema * target

    A policy that changes much gets small batches, a settled one large batches. It starts at ``min_size`` and stays
    there until ``warmup`` divergences are known. A pure function of the sequence of divergences.

    ``rounding="paper"`` truncates target and size to integers at every step, as the released code does: the size then
    stalls below the maximum (55 of 64, 119 of 128, 7904 of 8192), because a step of less than one is cut off.
    ``"exact"`` keeps the size as a float, rounds only what it hands out, and reaches the maximum.

    :param min_size: smallest size, in samples per gradient step, or rollout steps per environment
    :param max_size: largest size
    :param low: divergence at and below which the size grows towards the maximum
    :param high: divergence at and above which it falls towards the minimum
    :param kind: interpolation between them: ``"log"``, ``"linear"`` or ``"exp"``
    :param window: divergences averaged
    :param warmup: divergences before the first change
    :param ema: weight of the target in each step
    :param rounding: ``"exact"`` or ``"paper"``
    :param quantum: sizes handed out are multiples of it (``"paper"``: the size itself is, rounded down)
    :raises InvalidValue: a number out of range, an unknown kind or rounding, or bounds that are no multiples
    """

    @checked
    def __init__(
        self,
        min_size: Count,
        max_size: Count,
        low: Positive = 0.05,
        high: Positive = 0.95,
        kind: Kind = "log",
        window: Count = 20,
        warmup: Count = 10,
        ema: Weight = 0.1,
        rounding: Rounding = "exact",
        quantum: Count = 1,
    ) -> None:
        if min_size % quantum or max_size % quantum:
            raise InvalidValue(f"min_size, max_size: got {min_size}, {max_size}, expected multiples of {quantum}")
        if max_size < min_size:
            raise InvalidValue(f"max_size: got {max_size}, expected at least min_size = {min_size}")
        if high <= low:
            raise InvalidValue(f"high: got {high}, expected more than low = {low}")
        if warmup > window:
            raise InvalidValue(f"warmup: got {warmup}, expected at most window = {window}")
        self.min_size, self.max_size, self.quantum = min_size, max_size, quantum
        self.low, self.high, self.kind = low, high, kind
        self.window, self.warmup, self.ema, self.rounding = window, warmup, ema, rounding
        self._divergences: deque[float] = deque(maxlen=self.window)
        self._size = float(self.min_size)

    @property
    def size(self) -> int:
        """The present size."""
        if self.rounding == "paper":
            return int(self._size)
        return self._clamp(math.floor(self._size / self.quantum + 0.5) * self.quantum)

    @property
    def mean_divergence(self) -> float:
        """Mean of the window; NaN before the first divergence."""
        # Summed without rounding: twenty times 0.01 must not come out above the threshold of 0.01.
        return math.fsum(self._divergences) / len(self._divergences) if self._divergences else math.nan

    def target(self, divergence: float) -> float:
        """
        The size that a lasting divergence would lead to.

        :param divergence: mean divergence, >= 0
        """
        clipped = min(max(divergence, self.low), self.high)
        alpha = INTERPOLATIONS[self.kind](clipped, self.low, self.high)
        return self.max_size - alpha * (self.max_size - self.min_size)

    def update(self, divergence: float) -> int:
        """
        :param divergence: the newest one, >= 0
        :return: the size from now on
        :raises InvalidValue: negative, NaN or infinite
        """
        self._divergences.append(check_number("divergence", divergence, 0.0))
        if len(self._divergences) >= self.warmup:
            target = self.target(self.mean_divergence)
            if self.rounding == "paper":
                step = int((1 - self.ema) * self._size + self.ema * int(target))
                self._size = float(self._clamp(step // self.quantum * self.quantum))
            else:
                self._size += self.ema * (target - self._size)
        return self.size

    def _clamp(self, size: int) -> int:
        return min(max(size, self.min_size), self.max_size)

    def get_state(self) -> dict[str, Any]:
        """Window and size, plain numbers."""
        return {"divergences": list(self._divergences), "size": self._size}

    def set_state(self, state: dict[str, Any]) -> None:
        """
        :param state: what :meth:`get_state` returned
        """
        self._divergences = deque(map(float, state["divergences"]), maxlen=self.window)
        self._size = float(state["size"])
