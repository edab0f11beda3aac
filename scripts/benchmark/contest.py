"""How speeds are compared: contestants in processes of their own, turn by turn, and the median of several rounds."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np
import torch as th


class Worker(Protocol):
    """Somebody who works when asked, in a process of its own."""

    @property
    def who(self) -> str:
        """``"peer"``, or something of ours."""

    @property
    def n_threads(self) -> int:
        """Threads for PyTorch."""

    def make(self) -> Any:
        """What works, warmed up."""

    def figure(self, model: Any) -> float:
        """
        :param model: what :meth:`make` made
        """


def _serve(contestant: Worker, pipe: Connection) -> None:
    """One process a contestant: threads, allocator and floating-point mode of one must not touch the other."""
    th.set_flush_denormal(contestant.who != "peer")  # importing sbbatch has turned it on, which no peer does
    th.set_num_threads(contestant.n_threads)
    model = contestant.make()
    pipe.send("ready")
    while pipe.recv() == "go":
        pipe.send(contestant.figure(model))


def contest(contestants: Sequence[Worker], rounds: int) -> list[float]:
    """
    Median figure of each contestant over several rounds, in each of which every one works once and alone.

    :param contestants: who
    :param rounds: how many
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for contestant in contestants:
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(contestant, theirs), daemon=True))
        processes[-1].start()
        pipes.append(ours)
        ours.recv()  # warm up one after the other
    figures: list[list[float]] = [[] for _ in contestants]
    for _ in range(rounds):
        for pipe, own in zip(pipes, figures, strict=True):
            pipe.send("go")
            own.append(pipe.recv())
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send("stop")
        process.join()
    return [float(np.median(values)) for values in figures]


def interleaved(contestants: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """
    Median of several rounds, in each of which every contestant runs once, so that noise hits all alike.

    :param contestants: name -> a function that works and returns its figure
    :param rounds: how many
    """
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for contestant in contestants.values():
        contestant()  # warm up
    for _ in range(rounds):
        for name, contestant in contestants.items():
            figures[name].append(contestant())
    return {name: float(np.median(values)) for name, values in figures.items()}


def seconds_per_call(work: Callable[[], Any], n: int) -> float:
    """
    :param work: what to time
    :param n: calls
    """
    start = time.perf_counter()
    for _ in range(n):
        work()
    return (time.perf_counter() - start) / n


def show(row: dict[str, Any]) -> None:
    """
    :param row: one figure
    """
    values = [f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()]
    print(" | ".join(values), flush=True)
