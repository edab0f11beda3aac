"""How far training is: one moving line on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from sbbatch.zoo.logs.batch_log import measured_now, size_now

_WINDOW_SECONDS = 60.0
_LINE_SECONDS = 10.0
_BAR_SECONDS = 0.25


def say(text: str) -> None:
    """
    Print a line without tearing a progress bar apart.

    :param text: the line
    """
    tqdm.write(text)
    sys.stdout.flush()


def warn(text: str) -> None:
    """
    Print a warning on standard error without tearing a progress bar apart.

    :param text: one sentence
    """
    tqdm.write(f"sbbatch: warning: {text}", file=sys.stderr)


@contextmanager
def games_bar(n_games: int, wanted: bool | None = None) -> Iterator[Callable[[int], None] | None]:
    """
    A bar that counts games.

    :param n_games: how many there will be
    :param wanted: whether to show it; ``None``: when standard output is a terminal
    :return: a function to tell the number of games that have ended; ``None``: no bar
    """
    if not (sys.stdout.isatty() if wanted is None else wanted):
        yield None
        return
    with tqdm(total=n_games, unit=" games", ncols=_columns(), leave=False) as bar:

        def tell(ended: int) -> None:
            bar.update(ended - bar.n)

        yield tell


class Speed:
    """
    Agent steps per second over the last minute: the first steps, before learning starts, are much faster than the rest
    and must not make the time left look short.
    """

    def __init__(self, steps: int, now: float) -> None:
        self._points: deque[tuple[float, int]] = deque([(now, steps)])

    def update(self, steps: int, now: float) -> float:
        """
        Add a measurement.

        :param steps: agent steps so far
        :param now: time in seconds
        :return: agent steps per second
        """
        self._points.append((now, steps))
        while len(self._points) > 2 and now - self._points[0][0] > _WINDOW_SECONDS:
            self._points.popleft()
        start, first = self._points[0]
        return (steps - first) / max(now - start, 1e-9)


def progress_text(
    fps: float, mean_return: float | None, size: str | None, seconds_left: float, measured: str | None = None
) -> str:
    """
    The part of the line that changes.

    :param fps: agent steps per second
    :param mean_return: of the last 100 episodes; ``None``: none has ended yet
    :param size: of a batch now, e.g. ``"batch 8"``
    :param seconds_left: estimate
    :param measured: what the batch size follows, e.g. ``"divergence 0.12"``; ``None``: it is fixed, or nothing yet
    """
    shown = "-" if mean_return is None else f"{mean_return:.1f}"
    parts = [f"{fps:,.0f} steps/s", f"return {shown}"]
    parts += [part for part in (size, measured) if part is not None]
    return ", ".join([*parts, f"{timedelta(seconds=int(seconds_left))} left"])


class Progress(BaseCallback):
    """
    Show agent steps, agent steps per second, mean return of the last 100 episodes, batch size (of agents that learn
    from rollouts: their length), what it follows if it is adaptive, and time left.

    :param terminal: a moving bar instead of plain lines; ``None``: when standard output is a terminal
    """

    def __init__(self, terminal: bool | None = None) -> None:
        super().__init__()
        self.terminal = sys.stdout.isatty() if terminal is None else terminal
        self._bar: tqdm[Any] | None = None

    def _on_training_start(self) -> None:
        self._total = int(self.model._total_timesteps)
        self._shown_at = time.monotonic()
        self._speed = Speed(self.num_timesteps, self._shown_at)
        if self.terminal:
            layout = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} agent steps{postfix}"
            # tqdm hides a bar on terminals that report no size, as in many containers; shutil assumes 80 x 24 there.
            self._bar = tqdm(
                total=self._total, initial=self.num_timesteps, bar_format=layout, ncols=_columns(), nrows=20
            )

    def _on_step(self) -> bool:
        now = time.monotonic()
        if now - self._shown_at >= (_BAR_SECONDS if self._bar is not None else _LINE_SECONDS):
            self._show(now)
        return True

    def _on_training_end(self) -> None:
        self._show(time.monotonic())
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, now: float) -> None:
        self._shown_at = now
        fps = self._speed.update(self.num_timesteps, now)
        left = max(self._total - self.num_timesteps, 0) / fps if fps > 0 else 0.0
        episodes = self.model.ep_info_buffer
        mean_return = float(np.mean([episode["r"] for episode in episodes])) if episodes else None
        text = progress_text(fps, mean_return, size_now(self.model), left, measured_now(self.model))
        if self._bar is None:
            say(f"{self.num_timesteps:,}/{self._total:,} agent steps: {text}")
            return
        self._bar.ncols = _columns()
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(min(self.num_timesteps, self._total) - self._bar.n)
        self._bar.refresh()


def _columns() -> int:
    """Width of the line; the window may have been resized."""
    return shutil.get_terminal_size().columns - 1
