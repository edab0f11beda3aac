"""A worker process: claims waiting trials of a study one by one, runs them, and tells how each of them ended."""

from __future__ import annotations

import gc
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import optuna
import torch as th
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import TrialState

from sbbatch.errors import InvalidValue, NumericalError, UserError
from sbbatch.files import atomic_write
from sbbatch.settings.imports import import_packages
from sbbatch.settings.resolution import COMMAND_LINE
from sbbatch.zoo.commands.cli import USER_ERROR
from sbbatch.zoo.console.progress import warn
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.tune.storage import check_exists, open_storage, shown, storage_errors
from sbbatch.zoo.tune.study import (
    DIVERGED,
    ERROR,
    FAILED,
    INTERRUPTED,
    OUTCOME,
    PRUNED,
    REASON,
    REFUSED,
    Plan,
    claim,
    make_pruner,
    make_sampler,
    outcome_of,
    repeat,
    replace,
    slot_of,
)
from sbbatch.zoo.tune.trial import Interrupted, RunningScore, run_trial

_POLL_SECONDS = 1.0
# One bug in many trials may come from rare settings; more, or all of them, from the code.
_BUGS_ALLOWED = 3
_REFUSALS_ALLOWED = 3
_ERROR_CHARACTERS = 4_000
_LOST = "trial {} was silent for so long that it is repeated elsewhere; its result is dropped"


class WorkerStop(StopRequest):
    """Ctrl-C, SIGTERM, the end of the parent, and the loss of the trial under way."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = False
        self._parent = os.getppid()

    @property
    def requested(self) -> bool:
        """Whether training should end."""
        return super().requested or self.lost or os.getppid() != self._parent


def work(plan: Plan) -> None:
    """
    Run trials until every slot is filled, somebody asks to stop, or it makes no sense to go on.

    :param plan: of the study
    """
    th.set_num_threads(1)
    try:
        import_packages(plan.packages)
        with storage_errors(plan.url):
            check_exists(plan.url)  # else connecting would make an empty one
            storage = open_storage(plan.url, plan.heartbeat)
            study = _load(plan, storage)
            stop = WorkerStop()
            with stop:
                _run_trials(plan, study, storage, stop)
    except UserError as error:
        print(f"sbbatch: error: {error}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None


def _load(plan: Plan, storage: RDBStorage) -> optuna.Study:
    try:
        return optuna.load_study(study_name=plan.study_name, storage=storage, pruner=make_pruner(plan))
    except KeyError:
        raise InvalidValue(f"study '{plan.study_name}' is no longer in {shown(plan.url)}") from None


def _run_trials(plan: Plan, study: optuna.Study, storage: RDBStorage, stop: WorkerStop) -> None:
    while not stop.requested and hopeless(study, plan) is None:
        if plan.deadline is not None and time.time() > plan.deadline:
            return
        fail_stale_trials(study)
        trial = claim(study, storage, plan.n_trials)
        if trial is not None:
            run_claimed(plan, study, storage, trial, stop)
            gc.collect()
            continue
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if not any(slot_of(one) < plan.n_trials for one in running):
            return
        time.sleep(_POLL_SECONDS)  # somebody may die


def hopeless(study: optuna.Study, plan: Plan) -> str | None:
    """
    Why a study had better stop.

    :param study: of ours
    :param plan: of the study
    :return: one sentence, or ``None``
    """
    trials = study.get_trials(deepcopy=False)
    failed = [one for one in trials if outcome_of(one) == FAILED and one.number not in plan.old_failures]
    if len(failed) > max(_BUGS_ALLOWED, plan.n_trials // 10) or (
        len(failed) >= _BUGS_ALLOWED and not any(one.state is TrialState.COMPLETE for one in trials)
    ):
        last = str(failed[-1].user_attrs[ERROR]).strip().splitlines()[-1]
        return f"{len(failed)} trials failed, the last with {last}; tracebacks: {plan.folder / 'errors'}"
    ended = [one for one in trials if one.state.is_finished()]
    refused = [one for one in ended if outcome_of(one) == REFUSED]
    if len(refused) >= _REFUSALS_ALLOWED and len(refused) == len(ended):
        return f"the agent refused all {len(refused)} trials: {refused[-1].user_attrs[REASON]}"
    return None


def run_claimed(plan: Plan, study: optuna.Study, storage: RDBStorage, trial: optuna.Trial, stop: WorkerStop) -> None:
    """
    Run one trial and tell the study how it ended.

    :param plan: of the study
    :param study: of ours
    :param storage: its database
    :param trial: that this process has claimed
    :param stop: Ctrl-C and the like
    """
    frozen = storage.get_trial(trial._trial_id)
    slot, start = slot_of(frozen), time.monotonic()
    study.sampler = make_sampler(plan, slot)
    score = RunningScore(trial, plan.budget)
    stop.lost = False
    value: float | None = None
    state, attributes = TrialState.FAIL, dict[str, object]()
    try:
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        with _alive(plan, storage, trial._trial_id, stop):
            value, state = run_trial(plan, slot, score, stop), TrialState.COMPLETE
    except optuna.TrialPruned:
        state, attributes = TrialState.PRUNED, {OUTCOME: PRUNED}
    except NumericalError as error:
        state, attributes = TrialState.PRUNED, {REASON: str(error), OUTCOME: DIVERGED}
    except UserError as error:
        state, attributes = TrialState.PRUNED, {REASON: str(error).removeprefix(COMMAND_LINE).strip(), OUTCOME: REFUSED}
    except UpdateFinishedTrialError:
        stop.lost = True
    except StorageInternalError:
        raise  # without the database nothing can be told
    except (Interrupted, KeyboardInterrupt):
        attributes = {OUTCOME: INTERRUPTED}
    except Exception:  # a bug of ours or of the environment's
        attributes = {ERROR: traceback.format_exc(), OUTCOME: FAILED}
    if stop.lost:
        warn(_LOST.format(trial.number))
        stop.lost = False
        return
    attributes |= {"seeds": score.seeds, "evaluations": score.evaluations, "scores": score.scores}
    attributes["seconds"] = round(time.monotonic() - start, 2)
    _conclude(plan, study, storage, trial, state, value, attributes)


def _conclude(
    plan: Plan,
    study: optuna.Study,
    storage: RDBStorage,
    trial: optuna.Trial,
    state: TrialState,
    value: float | None,
    attributes: dict[str, object],
) -> None:
    """Attributes first, for a trial that has ended cannot be changed; and the outcome after its reason."""
    if ERROR in attributes:
        text = str(attributes[ERROR])
        attributes[ERROR] = text[-_ERROR_CHARACTERS:]
        with atomic_write(plan.folder / "errors" / f"trial_{trial.number}.txt") as file:
            file.write(f"trial {trial.number}: {plan.space.values(trial.params)}\n\n{text}".encode())
    try:
        for key, content in attributes.items():
            trial.set_user_attr(key, content)
        study.tell(trial, value, state=state, skip_if_finished=True)
    except UpdateFinishedTrialError:
        warn(_LOST.format(trial.number))
        return
    ended = storage.get_trial(trial._trial_id)
    if attributes.get(OUTCOME) == INTERRUPTED:
        repeat(study, ended)
    elif attributes.get(OUTCOME) == FAILED:
        replace(study, ended)


@contextmanager
def _alive(plan: Plan, storage: RDBStorage, trial_id: int, stop: WorkerStop) -> Iterator[None]:
    """Give signs of life in here, and find out whether anybody gave the trial up."""
    done = Event()

    def beat() -> None:
        while not done.wait(plan.heartbeat):
            try:
                storage.record_heartbeat(trial_id)
                stop.lost = storage.get_trial(trial_id).state is not TrialState.RUNNING
            except StorageInternalError as error:  # busy or gone; there are some beats left before the trial is dead
                warn(f"no heartbeat could be written ({error.__cause__ or error})")

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
