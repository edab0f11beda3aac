"""Processes that work on one study: each runs trials until enough of them count, whoever dies when."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from multiprocessing import connection, get_context
from multiprocessing.context import SpawnProcess

import optuna
import torch as th
from optuna.storages import RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from sbbatch.errors import InvalidValue, UserError
from sbbatch.settings.imports import import_packages
from sbbatch.zoo.console.progress import say, warn
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.tune.objective import Objective
from sbbatch.zoo.tune.report import trial_line
from sbbatch.zoo.tune.request import StudyRequest
from sbbatch.zoo.tune.storage import MISSED_HEARTBEATS, open_storage, storage_errors
from sbbatch.zoo.tune.study import COUNTED, load_study, make_pruner, make_sampler, n_counted, outcome_of

# Settings whose worker dies again and again probably kill it, e.g. by their need of memory.
MAX_RETRIES = 3
_USER_ERROR = 2  # exit code
_POLL_SECONDS = 1.0
_PATIENCE_SECONDS = 60.0  # for a worker that was asked to stop in the middle of an update
_DEATHS_ALLOWED = 3  # of each worker, without a trial that ended in between
# One bug in many trials may come from rare settings; more, or all of them, from the code.
_FAILURES_ALLOWED = 3


class WorkerStop(StopRequest):
    """Ctrl-C, SIGTERM, and the end of the parent."""

    def __init__(self) -> None:
        super().__init__()
        self._parent = os.getppid()

    @property
    def requested(self) -> bool:
        """Whether training should end."""
        return super().requested or os.getppid() != self._parent


def work(request: StudyRequest) -> None:
    """
    A worker's life.

    :param request: of the study
    """
    th.set_num_threads(1)
    try:
        import_packages(request.options.gym_packages)
        with storage_errors(request.url), WorkerStop() as stop:
            on_stale = partial(retry, request)
            storage = open_storage(request.url, request.options.heartbeat, new=False, on_stale=on_stale)
            study = load_study(storage, request.study_name, sampler=make_sampler(request), pruner=make_pruner(request))
            run_trials(request, study, stop)
    except UserError as error:
        print(f"sbbatch: error: {error}", file=sys.stderr)
        raise SystemExit(_USER_ERROR) from None


def run_trials(request: StudyRequest, study: optuna.Study, stop: StopRequest) -> None:
    """
    Run trials one by one, until enough of them count or it makes no sense to go on.

    :param request: of the study
    :param study: the same
    :param stop: Ctrl-C and the like
    """
    objective, after = Objective(request, stop), partial(_after_trial, request)
    while not (stop.requested or is_over(request, study)):
        fail_stale_trials(study)
        if not _has_room(request, study):
            time.sleep(_POLL_SECONDS)  # one of those that run may die
            continue
        try:
            study.optimize(objective, n_trials=1, catch=(Exception,), callbacks=[after], gc_after_trial=True)
        except ValueError as error:
            if "Cannot tell" not in str(error):
                raise
            warn("a trial was silent for so long that it is retried elsewhere; its result is dropped")


def is_over(request: StudyRequest, study: optuna.Study) -> bool:
    """
    :param request: of the study
    :param study: the same
    :return: whether no further trial should begin
    """
    late = request.options.deadline is not None and time.time() > request.options.deadline
    return late or n_counted(study) >= request.n_trials or problem_of(request, study) is not None


def _has_room(request: StudyRequest, study: optuna.Study) -> bool:
    """Whether fewer trials count or run than there shall be in the end."""
    live = study.get_trials(deepcopy=False, states=(*COUNTED, TrialState.RUNNING))
    for trial in [trial for trial in live if trial.state is TrialState.RUNNING and "worker" not in trial.user_attrs]:
        # Killed before its first heartbeat, it would never be found dead.
        silence = timedelta(seconds=MISSED_HEARTBEATS * request.options.heartbeat)
        if trial.datetime_start is not None and datetime.now() - trial.datetime_start > silence:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    return len(live) < request.n_trials


def _after_trial(request: StudyRequest, study: optuna.Study, trial: FrozenTrial) -> None:
    if request.options.verbose and outcome_of(trial) != "surplus":
        say(trial_line(request, study, trial))
    if outcome_of(trial) == "interrupted":
        _enqueue_again(study, trial)


def retry(request: StudyRequest, study: optuna.Study, trial: FrozenTrial) -> None:
    """
    :param request: of the study
    :param study: the same
    :param trial: whose worker has died; it is run again with the same parameters and seeds
    """
    if request.options.verbose:
        say(trial_line(request, study, trial))
    _enqueue_again(study, trial)


def _enqueue_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """With the same parameters, and so that its seeds are known; what the trial said of itself is left behind."""
    trial.user_attrs = {}
    RetryHeartbeatStaleTrialCallback(MAX_RETRIES)(study, trial)


def problem_of(request: StudyRequest, study: optuna.Study) -> str | None:
    """
    Why a study had better stop.

    :param request: of the study
    :param study: the same
    :return: one sentence, or ``None``
    """
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    n_of = Counter(map(outcome_of, trials))
    failed = [trial for trial in trials if outcome_of(trial) == "failed" and trial.number >= request.first_trial]
    allowed = max(_FAILURES_ALLOWED, request.n_trials // 10)
    if len(failed) > allowed or (len(failed) >= _FAILURES_ALLOWED and not n_of["complete"]):
        last = str(failed[-1].user_attrs["error"]).strip().splitlines()[-1]
        return f"{len(failed)} trials failed, the last with {last}; tracebacks: {request.folder / 'errors'}"
    if n_of["refused"] >= _FAILURES_ALLOWED and n_of["refused"] == len(trials):
        return f"the agent refused all {len(trials)} trials: {trials[-1].user_attrs['reason']}"
    return None


def run_workers(request: StudyRequest, study: optuna.Study, stop: StopRequest) -> None:
    """
    Let worker processes finish a study; one that dies is replaced.

    :param request: of the study
    :param study: the same
    :param stop: Ctrl-C and the like
    :raises InvalidValue: workers die faster than trials end
    """
    if is_over(request, study):
        return
    workers = [_start(request) for _ in range(min(request.options.n_jobs, request.n_trials))]
    deaths, n_ended = 0, 0
    try:
        while workers and not stop.requested:
            connection.wait([worker.sentinel for worker in workers], timeout=0.5)
            for worker in [worker for worker in workers if worker.exitcode is not None]:
                workers.remove(worker)
                if is_over(request, study):
                    continue
                if worker.exitcode != 0:
                    ended = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
                    deaths, n_ended = (deaths + 1 if ended == n_ended else 1), ended
                    if deaths > _DEATHS_ALLOWED * request.options.n_jobs:
                        raise InvalidValue(
                            f"{deaths} workers died and no trial ended, the last {_how(worker)}; give fewer --n-jobs "
                            "if the memory is full"
                        )
                    silence = MISSED_HEARTBEATS * request.options.heartbeat
                    warn(f"worker {worker.pid} {_how(worker)}; its trial is retried after {silence} s")
                workers.append(_start(request))
    finally:
        _end(workers)


def _how(worker: SpawnProcess) -> str:
    code = worker.exitcode or 0
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _start(request: StudyRequest) -> SpawnProcess:
    worker = get_context("spawn").Process(target=work, args=(request,), daemon=True)
    # A terminal sends Ctrl-C to us and to our children; they ignore it until they can handle it, and we pass it on.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        worker.start()
    finally:
        signal.signal(signal.SIGINT, before)
    return worker


def _end(workers: list[SpawnProcess]) -> None:
    """They put their trials back into the queue; a trial that a worker cannot put back is found by its heartbeat."""
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for worker in workers:
        worker.join(max(deadline - time.monotonic(), 0.0))
        if worker.exitcode is None:
            warn(f"worker {worker.pid} does not stop and is killed; its trial is retried when the study goes on")
            worker.kill()
            worker.join()
