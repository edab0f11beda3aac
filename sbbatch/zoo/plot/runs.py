"""What the folder of a run says: its settings, episodes and evaluations."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.errors import InvalidValue
from sbbatch.settings.reader import read_yaml
from sbbatch.zoo.logs.folders import BATCH_LOG_NAME

_LEFT_BY_A_RUN = ("*monitor.csv", "evaluations.npz", BATCH_LOG_NAME, "*/args.yml")


@dataclass(frozen=True)
class Run:
    """A run as its folder tells of it."""

    folder: Path
    arguments: dict[str, Any]  # it was started with; empty if they were not written down
    settings: dict[str, Any]  # hyperparameters that were set; likewise

    @property
    def agent(self) -> str:
        """Name of its algorithm, as it was written down or as the folder above has it."""
        return str(self.arguments.get("algo") or self.folder.parent.name)

    @property
    def environment(self) -> str:
        """Its environment, as it was written down or as the folder's name has it."""
        return str(self.arguments.get("env") or self.folder.name.rpartition("_")[0] or self.folder.name)

    @cached_property
    def episodes(self) -> tuple[np.ndarray, np.ndarray]:
        """Agent steps at the end of each training episode, and its raw return; both ``(episodes,)``, perhaps empty."""
        rows = [row for path in sorted(self.folder.glob("*monitor.csv")) for row in _read_monitor(path)]
        # Episodes of all files in the order they ended.
        _, returns, lengths, steps = np.array(sorted(rows, key=lambda row: row[0])).reshape(-1, 4).T
        # Files of SB3's Monitor do not know the steps of the other environments; the sum of lengths is close.
        return np.cumsum(lengths) if np.isnan(steps).any() else steps, returns

    @cached_property
    def evaluations(self) -> tuple[np.ndarray, np.ndarray]:
        """
        Agent steps at each evaluation ``(evaluations,)``, and raw returns ``(evaluations, episodes)``; perhaps empty.

        :raises InvalidValue: the file is damaged
        """
        path = self.folder / "evaluations.npz"
        if not path.exists():
            return np.empty(0), np.empty((0, 1))
        try:
            with np.load(path, allow_pickle=False) as arrays:
                steps, returns = np.asarray(arrays["timesteps"], float), np.asarray(arrays["results"], float)
            (n,), (n_rows, _) = steps.shape, returns.shape
            if n != n_rows:
                raise ValueError
        except Exception:  # whatever a damaged file leads to
            raise InvalidValue(f"{path}: damaged, or not written by an evaluation") from None
        return steps, returns


def read_run(folder: Path | str) -> Run:
    """
    The run in a folder.

    :raises InvalidValue: no such folder, or no run has written into it
    """
    path = Path(folder).resolve()
    if not path.is_dir():
        raise InvalidValue(f"no such run folder: {folder}")
    if not any(any(path.glob(pattern)) for pattern in _LEFT_BY_A_RUN):
        raise InvalidValue(f"{folder}: not the folder of a run, e.g. logs/qrdqn/ALE-Breakout-v5_1")
    written = [next(path.glob(f"*/{name}"), None) for name in ("args.yml", "config.yml")]
    return Run(path, *({} if file is None else read_yaml(file) for file in written))


def _read_monitor(path: Path) -> list[tuple[float, float, float, float]]:
    """Time, return, length and agent steps (NaN if not written) of each episode."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = []
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        try:
            rows.append((float(row["t"]), float(row["r"]), float(row["l"]), float(row.get("steps", "nan"))))
        except (KeyError, TypeError, ValueError):
            break  # the last line may be half-written when the run is still going on or was killed
    return rows


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of each value and up to ``window - 1`` before it; both ``(n,)``."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=float)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)
