"""From a sequence of divergences to a sequence of batch sizes: the controller of Adaptive Batch Scaling."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

from sbbatch.errors import InvalidValue, check_int, check_number, did_you_mean

Interpolation = Callable[[float, float, float], float]


def _log(divergence: float, low: float, high: float) -> float:
    return math.log(divergence / low) / math.log(high / low)


def _linear(divergence: float, low: float, high: float) -> float:
    return (divergence - low) / (high - low)


def _exp(divergence: float, low: float, high: float) -> float:
    ratio = high / low
    return (ratio ** _linear(divergence, low, high) - 1) / (ratio - 1)


# How far a divergence is from `low` (0) to `high` (1). The authors released the first and named the other two;
# `exp` is our reading of its name, the mirror image of `log`.
INTERPOLATIONS: dict[str, Interpolation] = {"log": _log, "linear": _linear, "exp": _exp}
ROUNDINGS = ("exact", "paper")


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

    :param min_size: smallest size, in the unit of the agent's knob (samples per gradient step, or rollout steps)
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

    def __init__(
        self,
        min_size: int,
        max_size: int,
        low: float = 0.05,
        high: float = 0.95,
        kind: str = "log",
        window: int = 20,
        warmup: int = 10,
        ema: float = 0.1,
        rounding: str = "exact",
        quantum: int = 1,
    ) -> None:
        self.quantum = check_int("quantum", quantum, 1)
        self.min_size = check_int("min_size", min_size, 1)
        self.max_size = check_int("max_size", max_size, self.min_size)
        for name, size in (("min_size", min_size), ("max_size", max_size)):
            if size % quantum:
                raise InvalidValue(f"{name}: got {size}, expected a multiple of {quantum}")
        self.low = check_number("low", low, 0.0, open_low=True)
        self.high = check_number("high", high, self.low, open_low=True)
        self.window = check_int("window", window, 1)
        self.warmup = check_int("warmup", warmup, 1, self.window)
        self.ema = check_number("ema", ema, 0.0, 1.0, open_low=True)
        for name, value, known in (("kind", kind, INTERPOLATIONS), ("rounding", rounding, ROUNDINGS)):
            if not isinstance(value, str) or value not in known:
                raise InvalidValue(f"{name}: got {value!r}{did_you_mean(str(value), known)}")
        self.kind, self.rounding = kind, rounding
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
