"""The workers of one command: started, watched, replaced when they die, and stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess

import optuna
from optuna.trial import FrozenTrial

from sbbatch.errors import InvalidValue
from sbbatch.zoo.console.progress import warn
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.tune.storage import MISSED_HEARTBEATS
from sbbatch.zoo.tune.study import Plan, finished_slots, refill, slot_of
from sbbatch.zoo.tune.worker import hopeless, work

_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 60.0  # for a worker that was asked to stop in the middle of an update
_DEATHS_ALLOWED = 3  # of each worker, without a trial that ended in between

Announce = Callable[[FrozenTrial], None]


def run_workers(plan: Plan, study: optuna.Study, stop: StopRequest, announce: Announce) -> None:
    """
    Let workers fill every slot of a study.

    :param plan: of the study
    :param study: the same
    :param stop: Ctrl-C and the like
    :param announce: called with each trial that has ended, by whichever worker
    :raises InvalidValue: workers die faster than trials end
    """
    news = News(plan, study, announce)
    while not (stop.requested or _is_over(plan, study)):
        refill(study, plan.n_trials)
        _run_once(plan, news, stop)
    news.tell()


def _is_over(plan: Plan, study: optuna.Study) -> bool:
    if plan.deadline is not None and time.time() > plan.deadline:
        return True
    trials = study.get_trials(deepcopy=False)
    return len(finished_slots(trials, plan.n_trials)) >= plan.n_trials or hopeless(study, plan) is not None


class News:
    """
    Trials that have ended since one last looked.

    :param plan: of the study
    :param study: the same
    :param announce: called with each of them
    """

    def __init__(self, plan: Plan, study: optuna.Study, announce: Announce) -> None:
        self.plan, self.study, self.announce = plan, study, announce
        self._told = {trial.number for trial in self._ended()}

    def tell(self) -> bool:
        """Announce what is new; whether there was anything."""
        new = [trial for trial in self._ended() if trial.number not in self._told]
        for trial in new:
            self._told.add(trial.number)
            self.announce(trial)
        return bool(new)

    def _ended(self) -> list[FrozenTrial]:
        trials = self.study.get_trials(deepcopy=False)
        ended = [trial for trial in trials if trial.state.is_finished() and slot_of(trial) < self.plan.n_trials]
        return sorted(ended, key=lambda trial: (trial.datetime_complete, trial.number))


def _run_once(plan: Plan, news: News, stop: StopRequest) -> None:
    """One generation of workers, until there is nothing left for them."""
    workers = [_start(plan) for _ in range(min(plan.n_jobs, plan.n_trials))]
    deaths = 0
    try:
        while workers and not stop.requested:
            time.sleep(_POLL_SECONDS)
            if news.tell():
                deaths = 0
            dead = [worker for worker in workers if worker.exitcode not in (None, 0)]
            workers = [worker for worker in workers if worker.exitcode is None]
            deaths += len(dead)
            if deaths > _DEATHS_ALLOWED * plan.n_jobs:
                killed = (dead[-1].exitcode or 0) < 0
                remedy = "give fewer --n-jobs if the memory is full" if killed else "see above what they said"
                raise InvalidValue(f"{deaths} workers died and no trial ended, the last {_how(dead[-1])}; {remedy}")
            for worker in dead:
                silence = MISSED_HEARTBEATS * plan.heartbeat
                warn(f"worker {worker.pid} {_how(worker)}; a new one starts, the trial is repeated after {silence} s")
                workers.append(_start(plan))
    finally:
        _end(workers)


def _how(worker: SpawnProcess) -> str:
    code = worker.exitcode or 0
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _start(plan: Plan) -> SpawnProcess:
    worker = get_context("spawn").Process(target=work, args=(plan,), daemon=True)
    with _deaf_to_ctrl_c():
        worker.start()
    return worker


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """
    A child that starts in here ignores Ctrl-C until it can handle it; a terminal sends it to parent and children alike,
    and the parent passes it on.
    """
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # only the main thread may set handlers; nothing to protect elsewhere
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(workers: list[SpawnProcess]) -> None:
    """They mark their trials as interrupted; one that cannot is found by its heart that does not beat."""
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for worker in workers:
        worker.join(max(deadline - time.monotonic(), 0.0))
        if worker.exitcode is None:
            warn(f"worker {worker.pid} does not stop and is killed; its trial is repeated when the study goes on")
            worker.kill()
            worker.join()
