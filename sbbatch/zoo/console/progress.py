"""What a person sees while a command runs: lines, warnings, and how far it is."""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from tqdm import tqdm

from sbbatch.batch import BatchSizeCallback

_LINE_SECONDS, _BAR_SECONDS = 10.0, 0.25
_SMOOTHING = 0.1  # of the speed: the first steps, before learning starts, are much faster than the rest


class LineHandler(logging.Handler):
    """
    Writes lines to standard output and warnings to standard error, around a progress bar.

    A stream that cannot be written to any more, because a reader such as ``head`` has left or the disk is full, is
    given up: a model is worth more than what is said about it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; see :class:`logging.Handler`."""
        name = "stdout" if record.levelno < logging.WARNING else "stderr"
        stream = getattr(sys, name)
        text = record.getMessage() if name == "stdout" else f"sbbatch: warning: {record.getMessage()}"
        try:
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a terminal without '±'
            tqdm.write(text, file=stream)
            stream.flush()
        except (OSError, ValueError) as error:
            nowhere = open(os.devnull, "w")  # noqa: SIM115
            setattr(sys, name, nowhere)
            with suppress(OSError, ValueError):  # not a real file
                os.dup2(nowhere.fileno(), stream.fileno())  # for its buffer, and whoever else holds it
            if name == "stdout":
                warn(f"standard output is lost ({error}); going on without it")


_LOG = logging.getLogger("sbbatch")
_LOG.setLevel(logging.INFO)
_LOG.propagate = False
_LOG.handlers = [LineHandler()]


def say(text: str) -> None:
    """Print a line."""
    _LOG.info("%s", text)


def warn(text: str) -> None:
    """Print a warning, one sentence."""
    _LOG.warning("%s", text)


@cache
def warn_once(text: str) -> None:
    """Print a warning the first time that it comes."""
    warn(text)


@contextmanager
def episodes_bar(n_episodes: int | None, wanted: bool | None = None) -> Iterator[Callable[[int, int], None]]:
    """
    How far playing is: a bar on a terminal, elsewhere a line every ten seconds.

    :param n_episodes: that there will be (``None``: unknown)
    :param wanted: ``True``: the bar everywhere; ``False``: neither
    :return: a function to tell the number of episodes that have ended, and the agent steps of each environment
    """
    terminal, said_at = sys.stdout.isatty(), time.monotonic()
    shown = terminal if wanted is None else wanted
    with tqdm(total=n_episodes, unit=" episodes", ncols=_columns(), leave=False, disable=not shown) as bar:

        def tell(ended: int, steps: int) -> None:
            nonlocal said_at
            bar.update(ended - bar.n)
            if wanted is None and not terminal and time.monotonic() - said_at >= _LINE_SECONDS:
                said_at = time.monotonic()
                of = "" if n_episodes is None else f"/{n_episodes}"
                say(f"{ended}{of} episodes have ended after {steps:,} agent steps of each environment")

        yield tell


def find_batch_callback(model: BaseAlgorithm) -> BatchSizeCallback | None:
    """What changes the batch size or rollout length of any agent: its own callback, or one that ``learn`` was given."""
    hooks = getattr(model, "update_hooks", [])
    active = next((hook for hook in hooks if isinstance(hook, BatchSizeCallback)), None)
    return active or getattr(model, "batch_size_callback", None)


def size_now(model: BaseAlgorithm) -> str | None:
    """The batch size or rollout length of any agent, e.g. ``"batch 8"`` or ``"rollout 32"``; ``None``: it has none."""
    rollout = isinstance(model, OnPolicyAlgorithm)
    size = getattr(model, "n_steps" if rollout else "batch_size", None)
    return None if size is None else f"{'rollout' if rollout else 'batch'} {size}"


def measured_now(model: BaseAlgorithm) -> str | None:
    """What the batch size followed last, e.g. ``"divergence 0.12"``; ``None``: nothing was measured."""
    callback = find_batch_callback(model)
    row = callback.history[-1] if callback is not None and callback.history else {}
    names = {"divergence_mean": "divergence", "noise_scale": "noise scale"}
    return next((f"{shown} {row[name]:.3g}" for name, shown in names.items() if name in row), None)


class Progress(BaseCallback):
    """
    Show agent steps, agent steps per second, mean return of the last 100 episodes, batch size (of agents that learn
    from rollouts: their length), what it follows if it is adaptive, and time left.

    :param terminal: a moving bar instead of plain lines; ``None``: when standard output is a terminal
    """

    def __init__(self, terminal: bool | None = None) -> None:
        super().__init__()
        self.terminal = sys.stdout.isatty() if terminal is None else terminal

    def _on_training_start(self) -> None:
        self._total, self._shown_at = int(self.model._total_timesteps), time.monotonic()
        start = "{percentage:3.0f}%|{bar}| " if self.terminal else ""
        self._bar = tqdm(
            total=self._total,
            initial=self.num_timesteps,
            unit=" steps",
            smoothing=_SMOOTHING,
            mininterval=0,
            miniters=0,
            bar_format=start + "{n_fmt}/{total_fmt} agent steps: {rate_noinv_fmt}{postfix}, {remaining} left",
            # tqdm hides a bar on terminals that report no size, as in many containers; shutil assumes 80 x 24 there.
            ncols=_columns(),
            nrows=20,
            file=sys.stderr if self.terminal else io.StringIO(),
        )

    def _on_step(self) -> bool:
        if time.monotonic() - self._shown_at >= (_BAR_SECONDS if self.terminal else _LINE_SECONDS):
            self._show()
        return True

    def _on_training_end(self) -> None:
        self._show()
        self._bar.close()

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        episodes = self.model.ep_info_buffer
        shown = f"{np.mean([episode['r'] for episode in episodes]):.1f}" if episodes else "-"
        parts = [f"return {shown}", size_now(self.model), measured_now(self.model)]
        self._bar.ncols = _columns()
        with suppress(OSError, ValueError):  # a terminal that was closed
            self._bar.set_postfix_str(", ".join(filter(None, parts)), refresh=False)
            self._bar.update(min(self.num_timesteps, self._total) - self._bar.n)
        if not self.terminal:
            say(str(self._bar).strip())


def _columns() -> int:
    return shutil.get_terminal_size().columns - 1
