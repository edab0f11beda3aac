"""How speeds are compared: turn by turn, each in a process of its own, and the median of several rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch as th

PEER = "peer"
Measure = Callable[[], float]  # works for a while and returns its speed
_measure: Measure


def _start(make: Callable[[], Measure], flush_denormal: bool, n_threads: int) -> None:
    """Of the process: threads, allocator and floating-point mode of one must not touch the other."""
    global _measure
    th.set_flush_denormal(flush_denormal)
    th.set_num_threads(n_threads)
    _measure = make()


def _work() -> float:
    return _measure()


def in_own_processes(makers: Mapping[str, Callable[[], Measure]], rounds: int) -> dict[str, float]:
    """
    Median of several rounds, in each of which every one works once and alone, in a process of its own.

    :param makers: name -> a picklable function that returns what measures, warmed up. Importing sbbatch turns on the
        flushing of denormal numbers, which no peer does: names that begin with ``"peer"`` are without it
    :param rounds: how many
    """
    with ExitStack() as stack:
        pools = []
        for name, make in makers.items():
            setup = (make, not name.startswith(PEER), th.get_num_threads())
            pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_start, initargs=setup)
            pools.append(stack.enter_context(pool))
            pools[-1].submit(int).result()  # warm up one after the other
        figures = [[pool.submit(_work).result() for pool in pools] for _ in range(rounds)]
    return dict(zip(makers, np.median(figures, axis=0).tolist(), strict=True))


def interleaved(work: Mapping[str, Measure], rounds: int) -> dict[str, float]:
    """Median of several rounds after a warm-up, in each of which every one works once, so that noise hits all alike."""
    figures = [[measure() for measure in work.values()] for _ in range(rounds + 1)]
    return dict(zip(work, np.median(figures[1:], axis=0).tolist(), strict=True))


def seconds_per_call(work: Callable[[], Any], n: int) -> float:
    """Mean over ``n`` calls."""
    start = time.perf_counter()
    for _ in range(n):
        work()
    return (time.perf_counter() - start) / n


def show(row: dict[str, Any]) -> None:
    """Print one row of figures."""
    values = [f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()]
    print(" | ".join(values), flush=True)
