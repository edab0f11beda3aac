"""What a worker makes of a trial: scores, pruning, bugs, numbers that are none, refusals, and being interrupted."""

import csv
import os
import sys
import time
from dataclasses import replace as changed

import gymnasium as gym
import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from tune_tools import begin, n_counted, reload, states, storage_of, until

from sbbatch.errors import InvalidValue, NumericalError
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.tune.report import write_report
from sbbatch.zoo.tune.request import Budget
from sbbatch.zoo.tune.results import best_of, repeat_command, results_of
from sbbatch.zoo.tune.search import trial as tune_trial
from sbbatch.zoo.tune.search import worker as tune_worker
from sbbatch.zoo.tune.study import claim, outcome_of, refill, slot_of
from sbbatch.zoo.tune.trial import Interrupted, RunningScore
from sbbatch.zoo.tune.worker import WorkerStop, hopeless, run_claimed, work

COMPLETE, PRUNED, FAIL, WAITING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING


@pytest.fixture
def tiny(tmp_path):
    plan, study = begin(tmp_path, n_trials=3)
    refill(study, 3)
    return plan, study


def scripted(monkeypatch, *outcomes):
    """Trials that come to what a test says: a score, or an exception."""
    left = iter(outcomes)

    def run_trial(plan, slot, score, stop):
        plan.space.suggest(score.trial)
        outcome = next(left)
        if isinstance(outcome, BaseException):
            raise outcome
        score.begin(slot)
        score.add(outcome)
        return outcome

    monkeypatch.setattr(tune_worker, "run_trial", run_trial)


def outcomes(study):
    return [outcome_of(trial) for trial in study.trials]


def test_a_worker_fills_every_slot_and_repeats_itself_exactly(tmp_path):
    found = []
    for name in "ab":
        plan, study = begin(tmp_path, name=name, n_trials=3)
        refill(study, 3)
        work(plan)
        assert states(study) == [COMPLETE] * 3
        found.append([(trial.params, trial.value, trial.user_attrs["evaluations"]) for trial in study.trials])
    assert found[0] == found[1]
    assert [slot_of(trial) for trial in study.trials] == [0, 1, 2]
    trial = study.trials[1]
    assert trial.user_attrs["seeds"] == [plan.training_seed(1, 0)]
    assert trial.user_attrs["values"] == plan.space.values(trial.params)
    assert trial.user_attrs["worker"].endswith(f":{os.getpid()}")
    assert list(trial.intermediate_values) == [1, 2]
    assert trial.value == trial.user_attrs["scores"][0] == np.mean(trial.user_attrs["evaluations"][0])


def test_a_study_in_two_sittings_is_the_same_as_in_one(tmp_path, monkeypatch):
    def scores(plan, slot, score, stop):
        values = plan.space.suggest(score.trial)
        score.begin(slot)
        score.add(-abs(values["n_steps"] - 3.0))
        return score.value

    monkeypatch.setattr(tune_worker, "run_trial", scores)
    found = []
    for name, sittings in (("one", [8]), ("two", [3, 8])):
        plan, study = begin(tmp_path, "--n-startup-trials", "2", name=name, n_trials=8)
        for n_trials in sittings:
            refill(study, n_trials)
            work(changed(plan, n_trials=n_trials))
        found.append([trial.params for trial in study.trials])
    assert found[0] == found[1]
    assert len({str(params) for params in found[0]}) == 8


def test_several_seeds_are_trained_one_after_the_other(tmp_path):
    plan, study = begin(tmp_path, "--n-seeds", "2", n_trials=1)
    refill(study, 1)
    work(plan)
    trial = study.trials[0]
    assert trial.user_attrs["seeds"] == [plan.training_seed(0, 0), plan.training_seed(0, 1)]
    assert len(trial.user_attrs["scores"]) == 2
    assert trial.value == np.mean(trial.user_attrs["scores"])
    assert list(trial.intermediate_values) == [1, 2, 3, 4]


OWN_MODULE = """
import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback

gym.register("Tuned/Cart-v0", "gymnasium.envs.classic_control.cartpole:CartPoleEnv", max_episode_steps=50)
BEGUN = []

class Half(BaseCallback):
    def _on_training_start(self):
        BEGUN.append(self.training_env.envs[0].unwrapped._sutton_barto_reward)

    def _on_step(self):
        return self.num_timesteps < 100
"""


def test_trials_have_the_packages_arguments_and_callbacks_of_their_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_tuning.py").write_text(OWN_MODULE)
    conf = tmp_path / "mine.yml"
    conf.write_text("Tuned/Cart-v0: {callback: own_tuning.Half}")
    line = ["--env", "Tuned/Cart-v0", "--gym-packages", "own_tuning", "-conf", str(conf)]
    line += ["--env-kwargs", "sutton_barto_reward:True"]
    try:
        with pytest.raises(InvalidValue, match="give --allow-import own_tuning if you trust it"):
            begin(tmp_path, *line, n_trials=1)
        plan, study = begin(tmp_path, *line, "--allow-import", "own_tuning", n_trials=1)
        refill(study, 1)
        work(plan)
        module = sys.modules["own_tuning"]
    finally:
        gym.registry.pop("Tuned/Cart-v0", None)
        sys.modules.pop("own_tuning", None)
    assert module.BEGUN == [True]
    assert states(study) == [COMPLETE]
    assert len(study.trials[0].user_attrs["evaluations"][0]) == 1  # the callback ended the training at half its length
    command = repeat_command(plan, best_of(results_of(plan, study)))
    assert command[-4:] == ["--gym-packages", "own_tuning", "--allow-import", "own_tuning"]


@pytest.mark.parametrize(("algo", "params"), [("pqn", "n_minibatches:4"), ("ppo", "n_steps:128")])
def test_agents_that_learn_from_rollouts_are_evaluated_as_often(tmp_path, algo, params):
    request = ["--algo", algo, "--n-evaluations", "4"]
    plan, study = begin(tmp_path, *request, n_trials=1, params=["-params", params, "n_epochs:1", "n_envs:2"])
    refill(study, 1)
    work(plan)
    assert list(study.trials[0].intermediate_values) == [1, 2, 3, 4]


class TrialStub:
    """Collects what Optuna would be told; prunes from a step on."""

    def __init__(self, prune_at=None):
        self.reported, self.prune_at = [], prune_at

    def report(self, value, step):
        self.reported.append((step, value))

    def should_prune(self):
        return self.prune_at is not None and self.reported[-1][0] >= self.prune_at


def running_score(prune_at=None, n_evaluations=4, n_seeds=1):
    return RunningScore(TrialStub(prune_at), Budget(100, n_evaluations, 1, 1, None, n_seeds))


def test_the_running_score_is_the_iqm_over_seeds_of_the_mean_of_the_last_three_evaluations():
    score = running_score(n_evaluations=4, n_seeds=4)
    for seed, returns in enumerate([[0, 10, 20, 30], [100, 100, 100, 400], [1, 1, 1, 1], [5, 5, 5, 5]]):
        score.begin(seed)
        for value in returns:
            assert score.add(value)
    reported = dict(score.trial.reported)
    assert (reported[1], reported[2], reported[4]) == (0, 5, 20)  # means of 0; 0, 10; 10, 20, 30
    assert reported[5] == (20 + 100) / 2  # two seeds: nothing is cut off
    assert score.scores == [20, 200, 1, 5]
    assert score.value == reported[16] == (20 + 5) / 2  # of four, the lowest and the highest are cut off


def test_a_trial_is_pruned_but_not_after_its_last_evaluation():
    score = running_score(prune_at=3)
    score.begin(0)
    assert [score.add(1.0) for _ in range(4)] == [True, True, False, True]


def test_a_return_that_is_no_number_is_no_score():
    score = running_score()
    score.begin(0)
    with pytest.raises(NumericalError, match="an evaluation returned nan"):
        score.add(float("nan"))
    assert score.trial.reported == []


def test_pruned_trials_stop_early_and_count(tiny, monkeypatch):
    plan, study = tiny
    monkeypatch.setattr(optuna.Trial, "should_prune", lambda self: True)
    work(plan)
    assert states(study) == [PRUNED] * 3
    assert outcomes(study) == ["pruned"] * 3
    assert [list(trial.intermediate_values) for trial in study.trials] == [[1]] * 3
    assert best_of(results_of(plan, study)) is None


def test_the_median_pruner_stops_what_is_below_the_median(tmp_path, monkeypatch):
    plan, study = begin(tmp_path, "--n-startup-trials", "2", "--n-evaluations", "4", n_trials=4)
    refill(study, 4)
    levels = iter([100.0, 50.0, 10.0, 200.0])

    def run_trial(plan, slot, score, stop):
        plan.space.suggest(score.trial)
        score.begin(slot)
        level = next(levels)
        if not all(score.add(level) for _ in range(4)):
            raise optuna.TrialPruned
        return score.value

    monkeypatch.setattr(tune_worker, "run_trial", run_trial)
    work(plan)
    assert outcomes(study) == ["complete", "complete", "pruned", "complete"]


def test_a_bug_is_a_failed_trial_with_its_traceback_and_another_takes_its_place(tiny, monkeypatch):
    plan, study = tiny
    scripted(monkeypatch, 1.0, ZeroDivisionError("a bug"), 2.0, 3.0)
    work(plan)
    assert outcomes(study) == ["complete", "failed", "complete", "complete"]
    failed = study.trials[1]
    assert failed.state is FAIL
    assert "ZeroDivisionError: a bug" in failed.user_attrs["error"]
    text = (plan.folder / "errors" / f"trial_{failed.number}.txt").read_text()
    assert "in run_trial" in text
    assert "n_steps" in text
    replaced = study.trials[3]
    assert slot_of(replaced) == slot_of(failed)
    assert replaced.state is COMPLETE
    assert n_counted(study) == 3


def test_a_bug_in_every_trial_ends_the_study_soon(tmp_path, monkeypatch):
    plan, study = begin(tmp_path, n_trials=50)
    refill(study, 50)
    scripted(monkeypatch, *[ZeroDivisionError("a bug")] * 50)
    work(plan)
    assert outcomes(study).count("failed") == 3
    assert n_counted(study) == 0
    reason = hopeless(study, plan)
    assert "3 trials failed, the last with ZeroDivisionError: a bug" in reason
    assert str(plan.folder / "errors") in reason
    later = changed(plan, old_failures=frozenset(trial.number for trial in study.trials if trial.state is FAIL))
    assert hopeless(study, later) is None  # the bug may be mended


def test_numbers_that_are_none_make_a_pruned_trial_with_its_reason(tiny, monkeypatch):
    plan, study = tiny
    scripted(monkeypatch, 1.0, NumericalError("loss: got nan at agent step 7"), 2.0)
    work(plan)
    assert outcomes(study) == ["complete", "diverged", "complete"]
    assert study.trials[1].state is PRUNED
    assert study.trials[1].user_attrs["reason"] == "loss: got nan at agent step 7"
    assert study.best_trial.number == 2


def test_settings_that_the_agent_refuses_are_told_and_do_not_end_the_study(tiny, monkeypatch):
    plan, study = tiny
    scripted(monkeypatch, InvalidValue("command line n_steps: got 3"), 1.0, 2.0)
    work(plan)
    assert outcomes(study) == ["refused", "complete", "complete"]
    assert study.trials[0].user_attrs["reason"] == "n_steps: got 3"


def test_settings_that_are_always_refused_end_the_study(tmp_path):
    file = tmp_path / "mine.yml"
    file.write_text("policy_kwargs.n_quantile: {choices: [5, 10]}")  # only the network knows its arguments
    plan, study = begin(tmp_path, "--space", str(file), "--algo", "qrdqn", n_trials=20)
    refill(study, 20)
    work(plan)
    assert outcomes(study).count("refused") == 3
    assert "the agent refused all 3 trials" in hopeless(study, plan)
    assert "n_quantile" in hopeless(study, plan)


def test_an_interrupted_trial_is_failed_and_waits_with_its_parameters(tiny, monkeypatch):
    plan, study = tiny
    scripted(monkeypatch, 1.0, Interrupted(), 2.0, 3.0)
    work(plan)
    assert outcomes(study) == ["complete", "interrupted", "complete", "complete"]
    assert study.trials[3].params == study.trials[1].params
    assert slot_of(study.trials[3]) == slot_of(study.trials[1]) == 1


def test_a_stop_in_the_middle_of_training_interrupts_the_trial(tiny):
    plan, study = tiny

    class AfterSomeSteps(StopRequest):
        n_asked = 0

        @property
        def requested(self):
            self.n_asked += 1
            return self.n_asked > 120

    trial = claim(study, storage_of(study), 3)
    score = RunningScore(trial, plan.budget)
    with pytest.raises(Interrupted):
        tune_trial.run_trial(plan, 0, score, AfterSomeSteps())
    assert len(score.evaluations[0]) == 1


def test_a_trial_that_was_given_up_for_dead_is_dropped(tiny, monkeypatch, capsys):
    plan, study = tiny
    storage = storage_of(study)
    trial = claim(study, storage, 3)

    def run_trial(plan, slot, score, stop):
        storage.set_trial_state_values(trial._trial_id, state=FAIL)
        score.begin(0)
        score.add(1.0)

    monkeypatch.setattr(tune_worker, "run_trial", run_trial)
    stop = WorkerStop()
    run_claimed(plan, study, storage, trial, stop)
    assert "its result is dropped" in capsys.readouterr().err
    assert outcome_of(study.trials[0]) == "killed"
    assert not stop.requested


def test_the_heart_beats_and_notices_a_trial_that_was_given_up(tiny, monkeypatch):
    plan, study = tiny
    plan = changed(plan, heartbeat=0.05)
    storage = storage_of(study)
    trial = claim(study, storage, 3)
    beats = []
    monkeypatch.setattr(storage, "record_heartbeat", beats.append)
    stop = WorkerStop()
    with tune_worker._alive(plan, storage, trial._trial_id, stop):
        until(lambda: len(beats) >= 3)
        assert not stop.requested
        storage.set_trial_state_values(trial._trial_id, state=FAIL)
        until(lambda: stop.requested)
    n_beats = len(beats)
    time.sleep(0.2)
    assert len(beats) == n_beats  # no thread is left behind


def test_a_worker_whose_parent_has_gone_stops(monkeypatch):
    stop = WorkerStop()
    assert not stop.requested
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert stop.requested


def silence(study):
    """The last heartbeat of all trials was long ago."""
    with storage_of(study).engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")


def test_a_dead_trial_is_repeated_by_the_next_worker(tiny):
    plan, study = tiny
    dead = claim(study, storage_of(study), 3)
    values = plan.space.suggest(dead)
    silence(study)
    work(plan)
    assert n_counted(study) == 3
    assert outcomes(study) == ["killed", "complete", "complete", "complete"]
    assert plan.space.values(study.trials[3].params) == values
    assert study.trials[3].user_attrs["seeds"] == [plan.training_seed(0, 0)]


@pytest.mark.parametrize("said", ["interrupted", "diverged"])
def test_what_a_killed_worker_had_said_already_is_not_the_outcome_of_the_repeated_trial(tiny, monkeypatch, said):
    plan, study = tiny
    claim(study, storage_of(study), 3).set_user_attr("outcome", said)
    silence(study)
    scripted(monkeypatch, optuna.TrialPruned(), 1.0, 2.0)
    work(plan)
    assert outcomes(study) == ["interrupted" if said == "interrupted" else "killed", "complete", "complete", "pruned"]
    assert write_report(plan, reload(plan), pictures=False)[0].startswith("3 of 3 trials are done")


def test_no_trial_is_begun_after_the_deadline(tiny):
    plan, study = tiny
    work(changed(plan, deadline=time.time() - 1))
    assert states(study) == [WAITING] * 3


def test_a_worker_without_its_database_says_so_in_one_sentence(tiny, capsys):
    plan, _ = tiny
    (plan.folder / "study.db").write_bytes(b"this is no database")
    with pytest.raises(SystemExit) as ended:
        work(plan)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "study.db cannot be used (file is not a database)" in error


def test_a_worker_whose_database_was_removed_makes_no_other(tiny, capsys):
    plan, _ = tiny
    (plan.folder / "study.db").unlink()
    with pytest.raises(SystemExit):
        work(plan)
    assert capsys.readouterr().err == f"sbbatch: error: no such file: {plan.folder / 'study.db'}\n"
    assert not (plan.folder / "study.db").exists()
    with pytest.raises(SystemExit):
        work(changed(plan, study_name="other", url=begin(plan.folder, name="b")[0].url))
    assert capsys.readouterr().err.startswith("sbbatch: error: study 'other' is no longer in ")


def test_the_tables_tell_of_every_trial(tiny, monkeypatch):
    plan, study = tiny
    scripted(monkeypatch, 1.0, ZeroDivisionError("a bug"), NumericalError("loss: nan"), 3.0)
    work(plan)
    lines = write_report(plan, reload(plan), pictures=False)
    assert lines[0] == "3 of 3 trials are done (2 complete, 1 failed, 1 diverged)"
    assert lines[1].startswith("best: trial")
    assert (plan.folder / "best.yml").read_text().startswith("# The best of 3 trials of study a ")
    with (plan.folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["outcome"] for row in rows] == outcomes(study)
    assert next(row for row in rows if row["outcome"] == "failed")["reason"] == "ZeroDivisionError: a bug"
    page = (plan.folder / "report.html").read_text()
    assert "ZeroDivisionError: a bug" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
