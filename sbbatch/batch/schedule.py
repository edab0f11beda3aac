"""Batch sizes by the clock: growth that looks at nothing, the control of every adaptive method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sbbatch.arguments import Count, checked
from sbbatch.batch.callback import BatchSizeCallback, Verbosity
from sbbatch.errors import InvalidValue, check_int, check_number, check_schedule


class BatchSizeSchedule(BatchSizeCallback):
    """
    A batch size that depends on nothing but the progress of the training: growth that ignores the policy, which every
    adaptive method should be compared with. ::

        BatchSizeSchedule(lambda progress: 8 * 16**progress)      # geometric, 8 to 128
        BatchSizeSchedule.linear(8, 128)
        BatchSizeSchedule("0:8 0.5:32 0.75:128")                   # jumps
        BatchSizeSchedule.piecewise({0.0: 8, 0.5: 32, 0.75: 128})  # the same

    Unlike SB3's schedules, which get the progress remaining, it gets the progress **made**, from 0 to 1: one reads it
    from left to right. Sizes are rounded to whole ones that the agent can have (rollout steps
    per environment for PQN and PPO, samples per gradient step for agents that learn from replay).

    :param schedule: from the progress made to a size, or sizes as text, each with the progress it begins at
    :param verbose: as in SB3
    :raises InvalidType: neither a function nor text
    :raises InvalidValue: text that is no schedule, or a size below 1; when training starts also: one that the agent
        cannot have
    """

    @checked
    def __init__(self, schedule: Callable[[float], float] | str, verbose: Verbosity = 0) -> None:
        super().__init__(verbose)
        sizes = Piecewise(_read(schedule)) if isinstance(schedule, str) else schedule
        check_schedule("schedule", lambda remaining: sizes(1.0 - remaining), 1.0, 2.0**62)
        moments = sorted({*(percent / 100 for percent in range(101)), *getattr(sizes, "moments", ())})
        self._sizes = [check_number(f"schedule: at {progress:g}", sizes(progress), 1.0) for progress in moments]
        self.schedule = sizes

    @classmethod
    def linear(cls, first: int, last: int) -> BatchSizeSchedule:
        """
        :param first: size at the start
        :param last: size at the end
        """
        return cls(Linear(first, last))

    @classmethod
    def piecewise(cls, sizes: Mapping[float, int]) -> BatchSizeSchedule:
        """
        :param sizes: size from each progress on, the first from 0
        """
        return cls(Piecewise(sizes))

    def config(self) -> dict[str, Any]:
        """See :meth:`BatchSizeCallback.config`; functions are compared by what they give at every percent."""
        return {"sizes": self._sizes}

    def _start(self) -> None:
        for size in self._sizes:
            self.agent.check_batch("BatchSizeSchedule: size", self._as_size(size))
        self.resize(self._now())

    def _on_rollout_end(self) -> None:
        """After environment steps, before the next update: replay agents use the size at once, others next rollout."""
        size = self._now()
        if size != self.size:
            self.resize(size)
            self.note()

    def _now(self) -> int:
        progress = min(self.model.num_timesteps / self.model._total_timesteps, 1.0)
        return self._as_size(self.schedule(progress))

    def _as_size(self, size: float) -> int:
        quantum = self.agent.size_multiple
        return max(round(size / quantum), 1) * quantum

    def set_state(self, state: dict[str, Any]) -> None:
        """The schedule knows the size; only the history is taken over."""
        super().set_state(state | {"size": self.size})


@checked
@dataclass(frozen=True)
class Linear:
    """
    A size that grows or shrinks at one pace.

    :param first: value at progress 0
    :param last: value at progress 1
    """

    first: Count
    last: Count

    def __call__(self, progress: float) -> float:
        """The size at a progress from 0 to 1."""
        return self.first + progress * (self.last - self.first)


class Piecewise:
    """
    A size that jumps.

    :param sizes: size from each progress on
    :raises InvalidValue: nothing for the start
    """

    @checked
    def __init__(self, sizes: Mapping[float, int]) -> None:
        for progress, size in sizes.items():
            check_number("sizes: progress", progress, 0.0, 1.0)
            check_int("sizes: size", size, 1)
        if 0.0 not in sizes:
            raise InvalidValue("sizes: got none for the start, expected one at progress 0.0")
        self.values = dict(sorted(sizes.items()))
        self.moments = tuple(self.values)  # where it jumps

    def __call__(self, progress: float) -> float:
        """The size at a progress from 0 to 1."""
        return [value for start, value in self.values.items() if start <= progress][-1]


def _read(text: str) -> dict[float, int]:
    """A schedule as text, ``"0:8 0.5:32"``."""
    try:
        pairs = [word.split(":") for word in text.split()]
        sizes = {float(progress): int(size) for progress, size in pairs}
    except ValueError:
        raise InvalidValue(f"schedule: got {text!r}, expected progress:size pairs such as '0:8 0.5:32'") from None
    if len(sizes) < len(pairs):
        raise InvalidValue(f"schedule: got {text!r}, which has two sizes for one moment")
    return sizes
