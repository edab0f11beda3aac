"""The same run with several seeds, one after the other or side by side, and what they have in common."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from sbbatch.errors import NumericalError
from sbbatch.zoo.commands.cli import INTERRUPTED, NUMERICAL_ERROR, USER_ERROR, guarded
from sbbatch.zoo.console.progress import say, warn
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.run.request import Request, read_request
from sbbatch.zoo.run.train import run

_POLL_SECONDS = 0.5


@dataclass
class SeedResult:
    """
    What became of one seed.

    :param seed: the seed
    :param exit_code: of its run, negative for the signal that ended its process; ``None``: it was not begun
    :param folder: its run folder, if it has one
    """

    seed: int
    exit_code: int | None = None
    folder: Path | None = None

    @property
    def state(self) -> str:
        """How it ended, in a word; nothing is said of a good end."""
        if self.exit_code in (None, 0):
            return "not begun" if self.exit_code is None else ""
        if self.killed_by is not None:
            return "killed"
        return "stopped early" if self.shell_code > 128 else "failed"

    @property
    def killed_by(self) -> str | None:
        """The signal that took its process away, e.g. for want of memory; SIGTERM is a wish that we pass on."""
        code = self.exit_code or 0
        return signal.Signals(-code).name if code < 0 and code != -signal.SIGTERM else None

    @property
    def shell_code(self) -> int:
        """The exit code by the shell's convention: 128 and the signal."""
        code = self.exit_code or 0
        return code if code >= 0 else 128 - code

    def evaluations(self) -> tuple[np.ndarray, np.ndarray]:
        """Agent steps and mean return of each evaluation."""
        path = None if self.folder is None else self.folder / "evaluations.npz"
        if path is None or not path.is_file():
            return np.zeros(0), np.zeros(0)
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["timesteps"], arrays["results"].mean(axis=1)


def run_seeds(request: Request) -> int:
    """
    Train once for each seed, and print a table of the results. A seed whose numbers became NaN does not keep the others
    from training; Ctrl-C ends the runs under way, and no other is begun.

    :param request: the runs, with ``--seeds`` and ``--jobs``
    :return: exit code: 0 if all runs came to their end
    """
    results = [SeedResult(seed) for seed in request.args.seeds]
    jobs = min(request.args.jobs, len(results))
    try:
        if jobs == 1:
            _one_after_the_other(request, results)
            stopped_by = 0
        else:
            stopped_by = _side_by_side(request, results, jobs)
    finally:
        if any(result.folder is not None for result in results):
            say("\n" + "\n".join(summary(results)))
    if stopped_by and not any(result.folder is not None for result in results):
        say("stopped before any run was begun")
    # What this process was sent says more than the signal that it passed on.
    return stopped_by or max(result.shell_code for result in results)


def _one_after_the_other(request: Request, results: Sequence[SeedResult]) -> None:
    for number, result in enumerate(results, 1):
        say(f"seed {result.seed}: run {number} of {len(results)}")
        _run_one(request, result)
        if result.state == "stopped early":
            break


def _run_one(request: Request, result: SeedResult) -> None:
    def begun(folder: Any) -> None:
        result.folder = folder.path

    try:
        result.exit_code, _ = run(replace(request, seed=result.seed), begun)
    except NumericalError as error:
        print(f"sbbatch: error: seed {result.seed}: {error}", file=sys.stderr)
        result.exit_code = NUMERICAL_ERROR
    except KeyboardInterrupt:
        result.exit_code = INTERRUPTED


# ------------------------------------------------------------------------------------------------- side by side


def _side_by_side(request: Request, results: Sequence[SeedResult], jobs: int) -> int:
    """A process of its own for each run, so that none takes another along; the exit code of a stop, 0 without one."""
    n_threads = request.args.num_threads
    if n_threads == -1:
        n_threads = max(_n_cores() // jobs, 1)  # PyTorch would take all cores for each
    say(f"{len(results)} seeds, {jobs} side by side, with {n_threads} thread{'s' if n_threads > 1 else ''} each")
    waiting, working = list(results), dict[int, tuple[SeedResult, BaseProcess, Connection]]()
    told = False
    with StopRequest() as stop:
        while working or (waiting and not stop.requested):
            while waiting and len(working) < jobs and not stop.requested:
                result = waiting.pop(0)
                process, connection = _start(request, result.seed, n_threads)
                working[process.sentinel] = (result, process, connection)
            if stop.requested and not told:
                told = True
                for _, process, _ in working.values():
                    process.terminate()  # a wish: the run ends between two steps, and is saved
            ended = wait(list(working), timeout=_POLL_SECONDS)
            for sentinel in [one for one in working if one in ended]:
                result, process, connection = working.pop(sentinel)
                process.join()
                result.exit_code, result.folder = process.exitcode, _received(connection)
                _tell_if_killed(result)
                if result.exit_code == USER_ERROR:
                    waiting.clear()  # what is wrong with one is wrong with all
    return stop.exit_code


def _start(request: Request, seed: int, n_threads: int) -> tuple[BaseProcess, Connection]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    # Plain lines now and then: SB3's tables of several runs would mix.
    options = {"seed": seed, "n_threads": n_threads, "progress": request.args.progress is not False}
    process = context.Process(target=work, args=(request.words, options, sender), name=f"seed {seed}")
    # The terminal's Ctrl-C would end it while it is still importing; later on it has a handler of its own.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    sender.close()  # ours; the end of theirs is the end of the process
    return process, receiver


def _tell_if_killed(result: SeedResult) -> None:
    """Nobody else does: a process that is killed has no last word."""
    if result.killed_by is None:
        return
    remedy = "give fewer --jobs if the memory is full"
    if result.folder is not None:
        remedy += f"; its run goes on with --resume {result.folder}"
    warn(f"seed {result.seed} was killed by {result.killed_by}; {remedy}")


def _received(connection: Connection) -> Path | None:
    """The run's folder, if it came so far."""
    try:
        return Path(connection.recv())
    except (EOFError, OSError):
        return None
    finally:
        connection.close()


def _n_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def work(words: list[str], options: dict[str, Any], sender: Connection) -> None:
    """
    One run in a process of its own.

    :param words: the command line
    :param options: its seed, threads, and whether it shows its progress
    :param sender: is told the run's folder
    """
    name = f"seed {options['seed']}: "
    sys.stdout, sys.stderr = PrefixedStream(sys.stdout, name), PrefixedStream(sys.stderr, name)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    @guarded
    def one(argv: list[str] | None = None) -> int:
        request = replace(read_request(argv), seed=options["seed"])
        request.args.num_threads, request.args.progress = options["n_threads"], options["progress"]
        return run(request, lambda folder: sender.send(str(folder.path)))[0]

    raise SystemExit(one(words))


def _end_with_parent() -> None:
    """Nobody would know of a run whose parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


class PrefixedStream:
    """
    A stream in which every line begins with a name, written in one piece so that processes do not mix their lines.

    :param stream: where the lines go
    :param name: how they begin
    """

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

    def flush(self) -> None:
        """As a file's."""
        self._stream.flush()


# ------------------------------------------------------------------------------------------------------ summary


def summary(results: Sequence[SeedResult]) -> list[str]:
    """
    A table of the last and the best evaluation of each seed, and of their means over the seeds that have any.

    :param results: the seeds
    :return: its lines
    """
    rows, last, best = [("seed", "last evaluation", "best evaluation", "run folder", "")], [], []
    for result in results:
        steps, returns = result.evaluations()
        shown = ("-", "-")
        if len(returns):
            top = int(returns.argmax())
            last.append(float(returns[-1]))
            best.append(float(returns[top]))
            shown = (f"{returns[-1]:.1f} at {steps[-1]:,}", f"{returns[top]:.1f} at {steps[top]:,}")
        rows.append((str(result.seed), *shown, str(result.folder or "-"), result.state))
    if last:
        means = [f"{np.mean(values):.1f} ± {np.std(values):.1f}" for values in (last, best)]
        rows.append(("mean", means[0], means[1], f"{len(last)} seed{'s' if len(last) > 1 else ''}", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join([*(f"{row[i]:<{widths[i]}}" for i in range(4)), row[4]]).rstrip() for row in rows]
