"""Processes that die: no trial is lost, none is counted twice, and Ctrl-C leaves a study that goes on."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace as changed

import optuna
import psutil
import pytest
import sqlalchemy
from optuna.trial import TrialState
from tune_tools import begin, n_counted, until, words

from sbbatch.errors import InvalidValue
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.tune.search import pool as tune_pool
from sbbatch.zoo.tune.study import INTERRUPTED, KILLED, outcome_of, refill, slot_of

# Long enough to be caught in the middle, with a heart that is found silent within seconds.
SLOW = ["-n", "3000", "--n-jobs", "2", "--heartbeat", "2", "--no-optim-plots"]
N_TRIALS = 3


def load(logs):
    url = f"sqlite:///{logs}/tune/dqn/CartPole-v1_a/study.db"
    return optuna.load_study(study_name="a", storage=url)


def running(logs):
    """Process of the worker -> its trial, as far as they have begun."""
    if not (logs / "tune/dqn/CartPole-v1_a/study.db").exists():
        return {}
    try:
        trials = load(logs).get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    except (
        KeyError,
        optuna.exceptions.StorageInternalError,
        sqlalchemy.exc.SQLAlchemyError,
    ):  # just being made, or busy
        return {}
    return {
        int(trial.user_attrs["worker"].rpartition(":")[2]): trial for trial in trials if "worker" in trial.user_attrs
    }


@contextmanager
def command(logs):
    """The command in a process group of its own, as in a terminal."""
    line = [sys.executable, "-m", "sbbatch.zoo.commands.cli", "tune", *words(logs, *SLOW, n_trials=N_TRIALS)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def first_running(logs, process):
    """Wait for a trial to be under way; a command that ends before has something to say."""
    until(lambda: running(logs) or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return running(logs)


def assert_complete(logs):
    """Every slot has exactly one trial that counts, and its seeds are those of the slot."""
    study = load(logs)
    counted = [trial for trial in study.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert sorted(slot_of(trial) for trial in counted) == list(range(N_TRIALS))
    assert not [trial for trial in study.trials if not trial.state.is_finished()]
    seeds = {slot_of(trial): trial.user_attrs["seeds"] for trial in counted}
    assert len({str(one) for one in seeds.values()}) == N_TRIALS
    return study


def freeze_one(logs):
    """Stop a worker in the middle of a trial that has its parameters, so that it cannot end before it is killed."""
    for _ in range(50):
        until(lambda: any(len(trial.params) == 3 for trial in running(logs).values()))
        pid, trial = next((pid, trial) for pid, trial in running(logs).items() if len(trial.params) == 3)
        os.kill(pid, signal.SIGSTOP)
        if running(logs).get(pid) is not None and running(logs)[pid].number == trial.number:
            return pid, trial
        os.kill(pid, signal.SIGCONT)
    raise AssertionError("no worker could be caught in a trial")


def test_a_killed_workers_trial_is_repeated_with_the_same_parameters_and_counted_once(tmp_path):
    with command(tmp_path) as process:
        pid, victim = freeze_one(tmp_path)
        os.kill(pid, signal.SIGKILL)
        out, error = process.communicate(timeout=900)
    assert process.returncode == 0, error
    assert f"worker {pid} was killed by SIGKILL; a new one starts" in error
    assert f"{N_TRIALS} of {N_TRIALS} trials are done" in out
    study = assert_complete(tmp_path)
    assert outcome_of(study.trials[victim.number]) == KILLED
    repeated = [trial for trial in study.trials if slot_of(trial) == slot_of(victim) and trial.number > victim.number]
    assert repeated[-1].state in (TrialState.COMPLETE, TrialState.PRUNED)
    assert all(trial.params == victim.params for trial in repeated)


def test_ctrl_c_leaves_no_trial_running_and_the_same_command_goes_on(tmp_path):
    with command(tmp_path) as process:
        first_running(tmp_path, process)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        out, error = process.communicate(timeout=300)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert f"of {N_TRIALS} trials are done" in out
    assert "--study-name a" in out  # how to go on
    study = load(tmp_path)
    states = Counter(trial.state for trial in study.trials)
    assert states[TrialState.RUNNING] == 0
    interrupted = [trial for trial in study.trials if outcome_of(trial) == INTERRUPTED]
    assert interrupted
    with command(tmp_path) as process:
        _, error = process.communicate(timeout=900)
    assert process.returncode == 0, error
    study = assert_complete(tmp_path)
    for trial in interrupted:
        again = [other for other in study.trials if slot_of(other) == slot_of(trial) and other.number > trial.number]
        assert again[-1].params.items() >= trial.params.items()


def test_workers_whose_parent_was_killed_stop_and_the_study_goes_on(tmp_path):
    with command(tmp_path) as process:
        first_running(tmp_path, process)
        os.kill(process.pid, signal.SIGSTOP)  # it starts no worker between the count and its death
        workers = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(workers, timeout=300)
        assert not alive
    assert not [trial for trial in load(tmp_path).trials if trial.state is TrialState.RUNNING]
    with command(tmp_path) as process:
        _, error = process.communicate(timeout=900)
    assert process.returncode == 0, error
    assert_complete(tmp_path)


class DeadWorker:
    """A process that dies at once."""

    pid, exitcode = 1, -9

    def terminate(self):
        raise AssertionError("it is dead already")


def test_workers_that_only_die_end_the_command_with_the_reason(tmp_path, monkeypatch):
    plan, study = begin(tmp_path)
    plan = changed(plan, n_jobs=2)
    monkeypatch.setattr(tune_pool, "_start", lambda plan: DeadWorker())
    monkeypatch.setattr(tune_pool, "_POLL_SECONDS", 0.0)
    with pytest.raises(InvalidValue, match="8 workers died and no trial ended, the last was killed by SIGKILL"):
        tune_pool.run_workers(plan, study, StopRequest(), lambda trial: None)
    assert n_counted(study) == 0


def test_workers_that_leave_a_slot_empty_are_followed_by_others(tmp_path, monkeypatch):
    plan, study = begin(tmp_path, n_trials=2)
    generations = []

    def run_once(plan, news, stop):  # the first generation loses a trial between two writes
        generations.append(refill(study, 2))
        for trial in study.get_trials(states=(TrialState.WAITING,)):
            study._storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING)
            state = TrialState.FAIL if len(generations) == 1 and slot_of(trial) == 1 else TrialState.COMPLETE
            study.tell(trial.number, 1.0 if state is TrialState.COMPLETE else None, state=state)

    monkeypatch.setattr(tune_pool, "_run_once", run_once)
    told = []
    tune_pool.run_workers(plan, study, StopRequest(), lambda trial: told.append(trial.number))
    assert len(generations) == 2
    assert n_counted(study) == 2
    assert told == [0, 1, 2]
