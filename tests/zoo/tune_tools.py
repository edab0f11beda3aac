"""Tiny studies for tests."""

import gc
import time

import optuna

from sbbatch.zoo.commands import tune
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.tune.objective import Objective
from sbbatch.zoo.tune.request import read_study_request
from sbbatch.zoo.tune.storage import open_storage
from sbbatch.zoo.tune.study import make_pruner, make_sampler, outcome_of, start_study
from sbbatch.zoo.tune.workers import run_trials

gc.freeze()  # Optuna collects garbage after each trial: not what was imported before
TINY = ["-params", "learning_starts:50", "train_freq:16", "gradient_steps:1", "policy_kwargs:dict(net_arch=[8])"]


def words(logs, *more, name="a", n_trials=3, params=TINY):
    """The command line of a study of trainings that take a moment."""
    common = ["--algo", "dqn", "--env", "CartPole-v1", "-f", str(logs), "--study-name", name, "--seed", "1"]
    budget = ["-n", "200", "--n-evaluations", "2", "--eval-episodes", "2", "--eval-max-steps", "20"]
    return [*common, *budget, "--n-trials", str(n_trials), "--device", "cpu", *more, *params]


def request_of(*line):
    """A study as it was asked for, checked."""
    return read_study_request(tune.read_options([*line]))


def begin(logs, *more, **kwargs):
    """Such a study, made but not run."""
    line = words(logs, *more, **kwargs)
    return start_study(request_of(*line), line)


def run(request, stop=None):
    """Work on a study in this process; its trials, as anybody else sees them."""
    storage = open_storage(request.url, request.options.heartbeat, new=False)
    parts = {"sampler": make_sampler(request), "pruner": make_pruner(request)}
    study = optuna.load_study(study_name=request.study_name, storage=storage, **parts)
    run_trials(request, study, stop or StopRequest())
    return trials_of(request)


def trials_of(request):
    """The trials of a study."""
    return optuna.load_study(study_name=request.study_name, storage=request.url).trials


def outcomes(trials):
    """What became of each."""
    return [outcome_of(trial) for trial in trials]


def scripted(monkeypatch, *outcomes):
    """Trials that come to what a test says: a score, or an exception; the last again and again."""
    left = list(outcomes)

    def run_one(self, trial, score):
        values = self.request.space.suggest(trial)
        outcome = left.pop(0) if len(left) > 1 else left[0]
        outcome = outcome(values) if callable(outcome) else outcome
        if isinstance(outcome, BaseException):
            raise outcome
        score.begin(self.request.training_seed(trial.number, 0))
        score.add(outcome)
        return outcome

    monkeypatch.setattr(Objective, "run", run_one)


def until(condition, seconds=300.0):
    """Wait for something that others do."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
