"""
Controls of an adaptive batch size: what must do worse, if it is the signal that helps and not what comes along with it.

Growth that looks at nothing is :class:`~sbbatch.batch.schedule.BatchSizeSchedule`; a fixed size needs no callback.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from pathlib import Path
from typing import Any

from sbbatch.arguments import checked
from sbbatch.batch.abs import ABS
from sbbatch.batch.callback import BatchSizeCallback, Verbosity
from sbbatch.batch.scheduler import AdaptiveBatchScheduler
from sbbatch.errors import InvalidValue


class Yoked(BatchSizeCallback):
    """
    The batch sizes of another run, replayed at the same agent steps. ::

        PQN(..., seed=0, batch_size_callback=Yoked("logs/pqn/MinAtar-Breakout-v1_2"))  # a run with another seed

    An agent that is yoked to the run of another seed has that run's schedule, but no feedback from its own policy. If
    it does as well as the adaptive one, the signal adds nothing beyond the schedule that it leads to.

    The size changes after the first update at or after the step at which it changed in the other run: with the same
    agent and environments, exactly where it did there.

    :param run: a ``batch_size.csv``, or a folder with one such file in it or below it
    :param verbose: as in SB3
    :raises InvalidValue: no such file, several of them, or none that a run has left; when training starts also: a size
        that the agent cannot have
    """

    @checked
    def __init__(self, run: str | Path, verbose: Verbosity = 0) -> None:
        super().__init__(verbose)
        self.run = str(run)
        self._timesteps, self._sizes = read_sizes(Path(run))

    def config(self) -> dict[str, Any]:
        """See :meth:`BatchSizeCallback.config`."""
        return {"run": self.run}

    def _start(self) -> None:
        for size in sorted(set(self._sizes)):
            self.agent.check_batch("Yoked: size", size)
        self.resize(self._now())

    def after_update(self) -> None:
        """Take over the next size, if its time has come."""
        size = self._now()
        if size != self.size:
            self.resize(size)
            self.note()

    def _now(self) -> int:
        return self._sizes[max(bisect_right(self._timesteps, self.model.num_timesteps) - 1, 0)]

    def set_state(self, state: dict[str, Any]) -> None:
        """The other run knows the size; only the history is taken over."""
        super().set_state(state | {"size": self.size})


class ReversedScheduler(AdaptiveBatchScheduler):
    """The mirror image of its parent, whose arguments it takes: it starts at ``max_size``, for nothing has settled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._size = float(self.max_size)

    def target(self, divergence: float) -> float:
        """
        :param divergence: mean divergence, >= 0
        """
        return self.min_size + self.max_size - super().target(divergence)


class ReversedABS(ABS):
    """
    ABS the other way round: large batches while the policy changes much, small ones when it has settled. It starts at
    ``max_size``, and each size is ``min_size + max_size`` minus what ABS would choose from the same divergences.

    The arguments are those of :class:`~sbbatch.batch.abs.ABS`.
    """

    scheduler_class = ReversedScheduler


def read_sizes(path: Path) -> tuple[list[int], list[int]]:
    """
    The agent steps at which a run took a size, and the sizes.

    :param path: a ``batch_size.csv``, or a folder with one such file in it or below it
    :raises InvalidValue: there is none, there are several, or it is damaged
    """
    files = sorted(path.rglob("batch_size.csv")) if path.is_dir() else [path]
    if len(files) != 1 or not files[0].is_file():
        raise InvalidValue(f"{path}: found {len(files) if path.is_dir() else 'no'} batch_size.csv, expected one")
    try:
        with files[0].open(newline="", encoding="utf-8") as file:
            rows = [(int(row["timesteps"]), int(row["size"])) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError):
        raise InvalidValue(f"{files[0]}: damaged, or not the batch sizes of a run") from None
    if not rows or rows != sorted(rows, key=lambda row: row[0]):
        raise InvalidValue(f"{files[0]}: no sizes in the order of agent steps")
    return [steps for steps, _ in rows], [size for _, size in rows]
