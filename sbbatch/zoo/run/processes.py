"""Work in processes of its own, several side by side: none that is killed takes another along."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from typing import Any

from sbbatch.errors import UserError

_POLL_SECONDS = 0.5


def in_own_process(function: Callable[..., Any], *args: Any) -> Any:
    """
    Call a function in a new process, which ignores Ctrl-C, ends with this one, and may handle SIGTERM.

    :return: what it returned
    :raises concurrent.futures.process.BrokenProcessPool: the process was killed
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin) as pool:
        # It is not to be interrupted while it is still importing.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            future = pool.submit(function, *args)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return future.result()


def side_by_side(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    n_processes: int,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Future[Any]]:
    """
    Call a function with the arguments of each job, in processes of their own.

    :param stopped: asked now and then; once it says yes no further call is begun, and SIGTERM is sent to those running
    :return: for each job what became of it, when all have ended; cancelled if it was not begun, as also happens after
        a ``UserError``, which every call would raise
    """
    told: set[int | None] = set()
    with ThreadPoolExecutor(n_processes) as threads:
        futures = [threads.submit(in_own_process, function, *args) for args in jobs]
        running = set(futures)
        while running:
            done, running = wait(running, timeout=_POLL_SECONDS)
            if stopped() or any(not one.cancelled() and isinstance(one.exception(), UserError) for one in done):
                for future in running:
                    future.cancel()
            for process in multiprocessing.active_children() if stopped() else ():
                if process.pid not in told:
                    told.add(process.pid)
                    process.terminate()
    return futures


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all processes; the first one decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Nobody would know of a process whose parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
