"""Processes that work on one study: each runs trials until enough of them count, whoever dies when."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import optuna
import torch as th
from optuna.storages import RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from sbbatch.errors import InvalidValue
from sbbatch.settings.imports import import_packages
from sbbatch.zoo.console.progress import say, warn
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.run.processes import in_own_process
from sbbatch.zoo.tune.objective import Objective
from sbbatch.zoo.tune.report import trial_line
from sbbatch.zoo.tune.request import StudyRequest
from sbbatch.zoo.tune.storage import MISSED_HEARTBEATS, open_storage, storage_errors
from sbbatch.zoo.tune.study import COUNTED, load_study, make_pruner, make_sampler, n_counted, outcome_of

# Settings whose worker dies again and again probably kill it, e.g. by their need of memory.
MAX_RETRIES = 3
_POLL_SECONDS = 1.0
_DEATHS_ALLOWED = 3  # of each worker, without a trial that ended in between
# One bug in many trials may come from rare settings; more, or all of them, from the code.
_FAILURES_ALLOWED = 3


def work(request: StudyRequest) -> None:
    """A worker's life."""
    th.set_num_threads(1)
    import_packages(request.options.gym_packages)
    with storage_errors(request.url), StopRequest() as stop:
        storage = open_storage(request.url, request.options.heartbeat, new=False, on_stale=partial(retry, request))
        study = load_study(storage, request.study_name, sampler=make_sampler(request), pruner=make_pruner(request))
        run_trials(request, study, stop)


def run_trials(request: StudyRequest, study: optuna.Study, stop: StopRequest) -> None:
    """Run trials one by one, until enough of them count or it makes no sense to continue."""
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
    """Whether no further trial should begin."""
    enough = time.time() > request.deadline or n_counted(study) >= request.options.n_trials
    return enough or problem_of(request, study) is not None


def _has_room(request: StudyRequest, study: optuna.Study) -> bool:
    """Whether fewer trials count or run than there shall be in the end."""
    live = study.get_trials(deepcopy=False, states=(*COUNTED, TrialState.RUNNING))
    latest = datetime.now() - timedelta(seconds=MISSED_HEARTBEATS * request.options.heartbeat)
    for trial in live:  # one that was killed before its first heartbeat would never be found dead
        if trial.state is TrialState.RUNNING and not trial.user_attrs and (trial.datetime_start or latest) < latest:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    return len(live) < request.options.n_trials


def _after_trial(request: StudyRequest, study: optuna.Study, trial: FrozenTrial) -> None:
    if outcome_of(trial) == "interrupted":
        retry(request, study, trial)
    elif request.options.verbose and outcome_of(trial) != "surplus":
        say(trial_line(request, study, trial))


def retry(request: StudyRequest, study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a trial again whose worker has died or was stopped: the same parameters and seeds, a clean record."""
    if request.options.verbose:
        say(trial_line(request, study, trial))
    trial.user_attrs = {}
    RetryHeartbeatStaleTrialCallback(MAX_RETRIES)(study, trial)


def problem_of(request: StudyRequest, study: optuna.Study) -> str | None:
    """Why a study had better stop, in one sentence, or ``None``."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    n_of = Counter(map(outcome_of, trials))
    failed = [trial for trial in trials if outcome_of(trial) == "failed" and trial.number >= request.first_trial]
    allowed = max(_FAILURES_ALLOWED, request.options.n_trials // 10)
    if len(failed) > allowed or (len(failed) >= _FAILURES_ALLOWED and not n_of["complete"]):
        last = str(failed[-1].user_attrs["error"]).strip().splitlines()[-1]
        return f"{len(failed)} trials failed, the last with {last}; tracebacks: {request.folder / 'errors'}"
    if n_of["refused"] >= _FAILURES_ALLOWED and n_of["refused"] == len(trials):
        return f"the agent refused all {len(trials)} trials: {trials[-1].user_attrs['reason']}"
    return None


def run_workers(request: StudyRequest, study: optuna.Study, stop: StopRequest) -> None:
    """Let worker processes finish a study; one that dies is replaced, unless they die faster than trials end."""
    options, problem, deaths, n_ended = request.options, "", 0, 0
    n_workers = 0 if is_over(request, study) else min(options.n_jobs, options.n_trials)
    told: set[int | None] = set()
    with ThreadPoolExecutor(options.n_jobs) as threads:

        def start() -> Future[Any]:
            return threads.submit(in_own_process, work, request)

        running = {start() for _ in range(n_workers)}
        while running:
            done, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            if stop.requested or problem:
                for process in multiprocessing.active_children():
                    if process.pid not in told:
                        told.add(process.pid)
                        process.terminate()  # it puts its trial back into the queue
                continue
            for error in [future.exception() for future in done if future.exception() is not None]:
                ended = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
                deaths, n_ended = (deaths + 1 if ended == n_ended else 1), ended
                why = "was killed" if isinstance(error, BrokenProcessPool) else f"ended with {error!r}"
                if deaths > _DEATHS_ALLOWED * options.n_jobs:
                    problem = f"{deaths} workers died and no trial ended, the last {why}; is the memory full?"
                else:
                    warn(f"a worker {why}; its trial is retried after {MISSED_HEARTBEATS * options.heartbeat} s")
            if done and not problem and not is_over(request, study):
                running |= {start() for _ in done}
    if problem:
        raise InvalidValue(problem)
