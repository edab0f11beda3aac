"""Work in processes of its own, several side by side: none that is killed takes another along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any


def in_own_process(function: Callable[..., Any], *args: Any) -> Any:
    """
    Call a function in a new process.

    :param function: to be found by its import path
    :param args: what it is called with; they are pickled
    :return: what it returned
    :raises concurrent.futures.process.BrokenProcessPool: the process was killed
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def side_by_side(function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], n_processes: int) -> list[Future[Any]]:
    """
    Call a function for several jobs, each in a process of its own.

    :param function: as in :func:`in_own_process`
    :param jobs: the arguments of each call
    :param n_processes: how many at once
    :return: for each job what became of it, when all have ended
    """
    with ThreadPoolExecutor(n_processes) as threads:
        return [threads.submit(in_own_process, function, *args) for args in jobs]
