"""Worker processes that die: no trial is lost, none is counted twice, and Ctrl-C leaves a study that goes on."""

import os
import signal
import threading
from concurrent.futures.process import BrokenProcessPool

import pytest
from optuna.trial import TrialState
from tune_tools import begin, outcomes, run, trials_of, until, words

from sbbatch.errors import InvalidValue
from sbbatch.zoo.commands import tune
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.tune import workers
from sbbatch.zoo.tune.study import COUNTED

# Long enough to be caught in the middle, with a heart that is found silent within seconds.
SLOW = ["-n", "1000", "--heartbeat", "1", "--no-optim-plots"]
N_TRIALS = 3


def running(study):
    """Process of the worker -> its trial, as far as it has its parameters."""
    found = study.get_trials(states=(TrialState.RUNNING,))
    found = [trial for trial in found if len(trial.params) == 3 and "worker" in trial.user_attrs]
    return {int(trial.user_attrs["worker"].rpartition(":")[2]): trial for trial in found}


def tuned(logs, capsys, n_jobs, meanwhile):
    """The command, and what is done to its workers while it runs; exit code, request, output."""
    line = [*SLOW, "--n-jobs", str(n_jobs)]
    request, study = begin(logs, *line, n_trials=N_TRIALS)
    thread = threading.Thread(target=meanwhile, args=(study,), daemon=True)
    thread.start()
    code = tune.main(words(logs, *line, n_trials=N_TRIALS))
    thread.join()
    return code, request, capsys.readouterr()


def test_a_killed_workers_trial_is_retried_and_exactly_the_number_of_trials_counts(tmp_path, capsys):
    killed = {}

    def kill_one(study):
        until(lambda: running(study))
        pid = next(iter(running(study)))
        os.kill(pid, signal.SIGSTOP)  # it cannot end its trial before it is killed
        trial = running(study).get(pid)
        if trial is None:
            os.kill(pid, signal.SIGCONT)
            return kill_one(study)
        os.kill(pid, signal.SIGKILL)
        return killed.update({pid: trial})

    code, request, told = tuned(tmp_path, capsys, 2, kill_one)
    assert code == 0, told.err
    (lost,) = killed.values()
    assert "a worker was killed; its trial is retried" in told.err
    assert f"{N_TRIALS} of {N_TRIALS} trials are done" in told.out
    trials = trials_of(request)
    assert sum(trial.state in COUNTED for trial in trials) == N_TRIALS
    assert outcomes(trials)[lost.number] == "killed"
    (again,) = [trial for trial in trials if trial.system_attrs.get("failed_trial") == lost.number]
    assert again.params == lost.params
    assert again.user_attrs["seeds"] == [request.training_seed(lost.number, 0)]


def test_ctrl_c_leaves_no_trial_running_and_the_same_command_goes_on(tmp_path, capsys):
    def interrupt(study):
        until(lambda: running(study))
        for process in [*running(study), os.getpid()]:  # as a terminal does
            os.kill(process, signal.SIGINT)

    code, request, told = tuned(tmp_path, capsys, 1, interrupt)
    assert (code, told.err) == (130, "")
    assert "--study-name a" in told.out  # how to go on
    interrupted = [trial for trial in trials_of(request) if trial.user_attrs.get("outcome") == "interrupted"]
    assert len(interrupted) == 1
    assert all(trial.state is not TrialState.RUNNING for trial in trials_of(request))
    trials = run(request)
    assert sum(trial.state in COUNTED for trial in trials) == N_TRIALS
    for trial in interrupted:
        assert any(other.params == trial.params for other in trials if other.state in COUNTED)


def test_workers_that_only_die_end_the_command_with_the_reason(tmp_path, monkeypatch):
    request, study = begin(tmp_path, "--n-jobs", "2")

    def die(*_):
        raise BrokenProcessPool

    monkeypatch.setattr(workers, "in_own_process", die)
    with pytest.raises(InvalidValue, match=r"[78] workers died and no trial ended, the last was killed"):
        workers.run_workers(request, study, StopRequest())


def test_a_worker_whose_database_is_gone_says_so_and_makes_no_other(tmp_path):
    request, _ = begin(tmp_path)
    (request.folder / "study.db").unlink()
    with pytest.raises(InvalidValue, match="no such file: "):
        workers.work(request)
    assert not (request.folder / "study.db").exists()
