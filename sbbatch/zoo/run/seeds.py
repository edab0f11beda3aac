"""The same run with several seeds, one after the other or side by side, and a table of their results."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch as th

from sbbatch.analysis.metrics import mean_and_deviation
from sbbatch.errors import NumericalError
from sbbatch.settings.imports import import_packages
from sbbatch.zoo.console.exit_codes import KILLED, NUMERICAL_ERROR, USER_ERROR
from sbbatch.zoo.console.progress import say, warn
from sbbatch.zoo.logs.folders import RunFolder
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.run.processes import side_by_side
from sbbatch.zoo.run.request import Request
from sbbatch.zoo.run.train import new_folder, run

Finish = Callable[[RunFolder], object]


@dataclass
class SeedResult:
    """What became of one seed."""

    seed: int
    exit_code: int | None = None  # of its run; None: it was not begun
    folder: Path | None = None

    @property
    def state(self) -> str:
        """How it ended, in a word; nothing is said of a good end."""
        if self.exit_code is None:
            return "not begun"
        states = {0: "", USER_ERROR: "failed", NUMERICAL_ERROR: "failed", KILLED: "killed"}
        return states.get(self.exit_code, "stopped early")


def run_seeds(request: Request, seeds: Sequence[int], jobs: int, finish: Finish) -> int:
    """
    Train once for each seed, and print a table of the results. A seed whose numbers became NaN does not keep the others
    from training; Ctrl-C ends the runs in progress, and no other is begun.

    :param jobs: runs side by side, each in a process of its own; 1: one after the other, in this process
    :param finish: called with each folder at the end of its run
    :raises UserError: what is wrong with one run is wrong with all of them, so no other is begun
    """
    results = [SeedResult(seed) for seed in seeds]
    requests = [replace(request, seed=seed, seed_given=True) for seed in seeds]
    stopped_by = 0
    try:
        if jobs == 1:
            _one_after_the_other(requests, results, finish)
        else:
            stopped_by = _side_by_side(requests, results, min(jobs, len(results)), finish)
    finally:
        if any(result.folder is not None for result in results):
            say("\n" + "\n".join(summary(results)))
    # What this process was sent says more than the signal that it passed on.
    return stopped_by or max(result.exit_code or 0 for result in results)


def _one_after_the_other(requests: Sequence[Request], results: Sequence[SeedResult], finish: Finish) -> None:
    for number, (request, result) in enumerate(zip(requests, results, strict=True), 1):
        say(f"seed {result.seed}: run {number} of {len(results)}")
        try:
            result.exit_code, folder = run(request, partial(setattr, result, "folder"))
            finish(folder)
        except NumericalError as error:
            _tell_failure(result, error)
        if result.state == "stopped early":
            break


def _side_by_side(requests: Sequence[Request], results: Sequence[SeedResult], n_processes: int, finish: Finish) -> int:
    """The exit code of a stop; 0 without one."""
    n_threads = requests[0].num_threads
    if n_threads < 1:  # each would take all cores
        n_threads = max(th.get_num_threads() // n_processes, 1)
    say(f"{len(results)} seeds, {n_processes} side by side, with {n_threads} thread{'s' * (n_threads > 1)} each")
    # Plain lines now and then: SB3's tables of several runs would mix.
    common: dict[str, Any] = {"num_threads": n_threads, "progress": requests[0].progress is not False}
    # Made here, so that they are numbered in the order of the seeds and known of a process that is killed.
    folders = [new_folder(one) for one in requests]
    with StopRequest() as stop:
        jobs = [(replace(one, **common), folder, finish) for one, folder in zip(requests, folders, strict=True)]
        futures = side_by_side(_train_apart, jobs, n_processes, lambda: stop.requested)
    for folder, result in zip(folders, results, strict=True):
        if folder.arguments.exists():
            result.folder = folder.path
        else:  # it was not begun, or refused
            shutil.rmtree(folder.path, ignore_errors=True)
    mistake = None
    for future, result in zip(futures, results, strict=True):
        if future.cancelled():
            continue
        error = future.exception()
        if error is None:
            result.exit_code = future.result()
        elif isinstance(error, NumericalError):
            _tell_failure(result, error)
        elif isinstance(error, BrokenProcessPool):
            result.exit_code = stop.exit_code or KILLED
            if not stop.requested:
                resume = f"; resume its run with --resume {result.folder}" if result.folder is not None else ""
                warn(f"the process of seed {result.seed} was killed; give fewer --jobs if memory is short{resume}")
        else:
            result.exit_code, mistake = USER_ERROR, mistake or error
    if mistake is not None:
        raise mistake
    return stop.exit_code


def _tell_failure(result: SeedResult, error: NumericalError) -> None:
    print(f"sbbatch: error: seed {result.seed}: {error}", file=sys.stderr)
    result.exit_code = NUMERICAL_ERROR


def _train_apart(request: Request, folder: RunFolder, finish: Finish) -> int:
    """One run in a process of its own."""
    name = f"seed {request.seed}: "
    sys.stdout, sys.stderr = PrefixedStream(sys.stdout, name), PrefixedStream(sys.stderr, name)
    import_packages(request.gym_packages)
    exit_code, _ = run(request, folder=folder)
    finish(folder)
    return exit_code


class PrefixedStream:
    """A stream whose lines begin with a name and are written in one piece, so that processes do not mix them."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name, self._begun = stream, name, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """A moving line of one process would tear those of the others apart."""
        return False

    def write(self, text: str) -> int:
        """As a file's; the beginning of a line waits for its end."""
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            self._stream.write("".join(f"{self._name}{line}\n" for line in lines if line.strip()))
            self._stream.flush()
        return len(text)


def summary(results: Sequence[SeedResult]) -> list[str]:
    """The lines of a table of each seed's last and best evaluation, and of their means over the seeds that have any."""
    rows, last, best = [("seed", "last evaluation", "best evaluation", "run folder", "")], [], []
    for result in results:
        path, shown = Path(result.folder or "") / "evaluations.npz", ("-", "-")
        if result.folder is not None and path.is_file():
            with np.load(path, allow_pickle=False) as arrays:
                steps, returns = arrays["timesteps"], arrays["results"].mean(axis=1)
            top = int(returns.argmax())
            last.append(float(returns[-1]))
            best.append(float(returns[top]))
            shown = (f"{returns[-1]:.1f} at {steps[-1]:,}", f"{returns[top]:.1f} at {steps[top]:,}")
        rows.append((str(result.seed), *shown, str(result.folder or "-"), result.state))
    if last:
        rows.append(
            ("mean", mean_and_deviation(last), mean_and_deviation(best), f"{len(last)} seed{'s' * (len(last) > 1)}", "")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join([*(f"{row[i]:<{widths[i]}}" for i in range(4)), row[4]]).rstrip() for row in rows]
