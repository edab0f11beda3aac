"""Tiny studies for tests."""

import time

import optuna
from optuna.trial import TrialState

from sbbatch.zoo.tune.place import make_place, start
from sbbatch.zoo.tune.request import read_arguments, read_request

TINY = ["-params", "learning_starts:50", "train_freq:16", "gradient_steps:1", "policy_kwargs:dict(net_arch=[8])"]


def words(logs, *more, name="a", n_trials=3, params=TINY):
    """The command line of a study of trainings that take a moment."""
    common = ["--algo", "dqn", "--env", "CartPole-v1", "-f", str(logs), "--study-name", name, "--seed", "1"]
    budget = ["-n", "200", "--n-evaluations", "2", "--eval-episodes", "2", "--eval-max-steps", "20"]
    return [*common, *budget, "--n-trials", str(n_trials), "--device", "cpu", *more, *params]


def begin(logs, *more, **kwargs):
    """The plan of such a study, and the study, made but not run."""
    request = read_request(read_arguments(words(logs, *more, **kwargs)))
    return start(request, make_place(request.args, request.space.name))


def storage_of(study):
    """The database behind Optuna's cache."""
    return study._storage._backend


def states(study):
    """State of each trial, by its number."""
    return [trial.state for trial in study.get_trials(deepcopy=False)]


def reload(plan):
    """The study as anybody else sees it."""
    return optuna.load_study(study_name=plan.study_name, storage=plan.url)


def n_counted(study):
    """Trials that count."""
    return sum(state in (TrialState.COMPLETE, TrialState.PRUNED) for state in states(study))


def until(condition, seconds=300.0):
    """Wait for something that other processes do."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
