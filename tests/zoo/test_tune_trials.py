"""What becomes of a trial: a score, pruning, bugs, NaN, refusals, Ctrl-C, and a worker that dies."""

import csv
import sys
import time
from collections import Counter
from dataclasses import replace

import gymnasium as gym
import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from tune_tools import begin, outcomes, run, scripted, trials_of, words

from sbbatch.errors import InvalidValue, NumericalError
from sbbatch.settings.resolution import resolve
from sbbatch.zoo.commands import train, tune
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.tune.objective import NotCounted, Objective, RunningScore
from sbbatch.zoo.tune.report import draw_study, repeat_command, write_report
from sbbatch.zoo.tune.request import Budget
from sbbatch.zoo.tune.space import make_space
from sbbatch.zoo.tune.storage import open_storage
from sbbatch.zoo.tune.study import find_study, outcome_of
from sbbatch.zoo.tune.workers import MAX_RETRIES, problem_of, retry, work

COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study of real trainings, and its report."""
    request, _ = begin(tmp_path_factory.mktemp("logs"), "--n-seeds", "2", n_trials=2)
    work(request)
    _, study = find_study(request.options)
    return request, study, write_report(request, study)


def test_a_trial_is_trained_once_for_each_seed(trained):
    request, study, _ = trained
    assert [trial.state for trial in study.trials] == [COMPLETE] * 2
    for trial in study.trials:
        attributes = trial.user_attrs
        assert attributes["seeds"] == [request.training_seed(trial.number, index) for index in range(2)]
        assert list(trial.intermediate_values) == [1, 2, 3, 4]
        assert attributes["scores"] == [np.mean(evaluations) for evaluations in attributes["evaluations"]]
        assert trial.value == np.mean(attributes["scores"])


def test_a_study_leaves_its_files(trained):
    request, _, lines = trained
    names = {str(path.relative_to(request.folder)) for path in request.folder.rglob("*") if path.is_file()}
    inner = {f"CartPole-v1/{name}" for name in ("args.yml", "command.txt", "config.yml")}
    pairs = ("batch_size_learning_rate", "batch_size_n_steps", "learning_rate_n_steps")
    files = {"best.yml", "trials.csv", "report.html", "history.png", *(f"map_{pair}.png" for pair in pairs)}
    assert names == inner | files | {"study.db"}
    assert lines[0] == "2 of 2 trials are done (2 complete)"
    assert all(name in lines[-1] for name in files)


def test_the_page_needs_nothing_but_itself(trained):
    page = (trained[0].folder / "report.html").read_text()
    assert page.count("src='data:image/png;base64,") == 4
    assert "src='" not in page.replace("src='data:", "")
    assert not any(word in page for word in ("<script", "<link", "http"))
    assert "dqn on CartPole-v1: study a" in page


def test_pictures_show_trials_that_were_stopped_early_too():
    space = make_space(
        "mine", {"batch_size": {"low": 1, "high": 8, "powers_of": 2}, "gamma": {"low": 0, "high": 1}}, ""
    )
    study = optuna.create_study(direction="maximize")
    for number in range(8):
        trial = study.ask()
        space.suggest(trial)
        trial.report(number, 1)
        study.tell(trial, None if number % 2 else number, state=PRUNED if number % 2 else COMPLETE)
    assert set(draw_study(study, space)) == {"history", "importances", "map_batch_size_gamma"}


def test_the_best_settings_train_exactly_as_the_trial_did(trained, tmp_path):
    request, study, _ = trained
    best = study.best_trial
    settings = resolve("dqn", "CartPole-v1", conf_file=request.folder / "best.yml")
    assert {key: settings[key].value for key in request.space.entries} == request.space.values(best.params)
    command = repeat_command(request, best)
    assert f"# {' '.join(command)}\n" in (request.folder / "best.yml").read_text()
    assert train.main([*command[2:], "-f", str(tmp_path), "--verbose", "0"]) == 0
    with np.load(tmp_path / "dqn/CartPole-v1_1/evaluations.npz") as arrays:
        assert arrays["results"].mean(axis=1).tolist()[:2] == best.user_attrs["evaluations"][0]


def test_a_report_can_be_written_again_also_without_matplotlib(trained, capsys, monkeypatch):
    request, _, _ = trained
    (request.folder / "best.yml").unlink()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert tune.main([*words(request.options.log_folder), "--report-only"]) == 0
    assert "no pictures: plots need matplotlib" in capsys.readouterr().out
    assert (request.folder / "best.yml").exists()
    assert "<img" not in (request.folder / "report.html").read_text()


@pytest.mark.parametrize(("algo", "params"), [("pqn", "n_minibatches:4"), ("ppo", "n_steps:128")])
def test_agents_that_learn_from_rollouts_are_evaluated_as_often(tmp_path, algo, params):
    line = ["--algo", algo, "--n-evaluations", "4"]
    request, _ = begin(tmp_path, *line, n_trials=1, params=["-params", params, "n_epochs:1", "n_envs:2"])
    assert list(run(request)[0].intermediate_values) == [1, 2, 3, 4]


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
        request, _ = begin(tmp_path, *line, "--allow-import", "own_tuning", n_trials=1)
        (trial,) = run(request)
        module = sys.modules["own_tuning"]
    finally:
        gym.registry.pop("Tuned/Cart-v0", None)
        sys.modules.pop("own_tuning", None)
    assert module.BEGUN == [True]
    assert len(trial.user_attrs["evaluations"][0]) == 1  # the callback ended the training at half its length
    assert repeat_command(request, trial)[-4:] == ["--gym-packages", "own_tuning", "--allow-import", "own_tuning"]


class TrialStub:
    """Collects what Optuna would be told; prunes from a step on."""

    def __init__(self, prune_at=None):
        self.reported, self.prune_at = [], prune_at

    def report(self, value, step):
        self.reported.append((step, value))

    def should_prune(self):
        return self.prune_at is not None and self.reported[-1][0] >= self.prune_at


def running_score(prune_at=None, n_seeds=1):
    score = RunningScore(TrialStub(prune_at), Budget(100, 4, 1, 1, None, n_seeds))
    score.begin(0)
    return score


def test_the_running_score_is_the_iqm_over_seeds_of_the_mean_of_the_last_three_evaluations():
    score = running_score(n_seeds=4)
    for seed, returns in enumerate([[0, 10, 20, 30], [100, 100, 100, 400], [1, 1, 1, 1], [5, 5, 5, 5]]):
        if seed:
            score.begin(seed)
        assert all(score.add(value) for value in returns)
    reported = dict(score.trial.reported)
    assert (reported[1], reported[2], reported[4]) == (0, 5, 20)  # means of 0; 0, 10; 10, 20, 30
    assert reported[5] == (20 + 100) / 2  # two seeds: nothing is cut off
    assert score.scores == [20, 200, 1, 5]
    assert score.value == reported[16] == (20 + 5) / 2  # of four, the lowest and the highest are cut off


def test_a_trial_is_pruned_but_not_after_its_last_evaluation():
    score = running_score(prune_at=3)
    assert [score.add(1.0) for _ in range(4)] == [True, True, False, True]


def test_a_return_that_is_nan_is_no_score():
    score = running_score()
    with pytest.raises(NumericalError, match="an evaluation returned nan"):
        score.add(float("nan"))
    assert score.trial.reported == []


def test_the_median_pruner_stops_what_is_below_the_median_and_the_trial_counts(tmp_path, monkeypatch):
    levels = iter([100.0, 50.0, 10.0, 200.0])

    def run_one(self, trial, score):
        self.request.space.suggest(trial)
        score.begin(trial.number)
        level = next(levels)
        if not all(score.add(level) for _ in range(4)):
            raise optuna.TrialPruned
        return score.value

    monkeypatch.setattr(Objective, "run", run_one)
    line = ["--n-startup-trials", "2", "--n-evaluations", "4"]
    trials = run(begin(tmp_path, *line, n_trials=4)[0])
    assert outcomes(trials) == ["complete", "complete", "pruned", "complete"]
    assert trials[2].value == 10.0


def test_outcomes_are_told_on_the_screen_and_in_the_files(tmp_path, monkeypatch, capsys):
    nan, refused, bug = (
        NumericalError("loss: nan"),
        InvalidValue(f"command line n_steps: got 3, {'x' * 80}"),
        ZeroDivisionError("oh"),
    )
    scripted(monkeypatch, 1.0, bug, nan, refused, NotCounted(), 3.0)
    request, _ = begin(tmp_path, "--no-optim-plots", n_trials=5)
    trials = run(request)
    found = ["complete", "failed", "diverged", "refused", "interrupted", "complete", "complete"]
    assert outcomes(trials) == found
    assert [trial.state for trial in trials] == [COMPLETE, FAIL, PRUNED, PRUNED, FAIL, COMPLETE, COMPLETE]
    assert trials[5].params == trials[4].params  # Ctrl-C is no verdict on the settings
    told = capsys.readouterr().out
    assert "[1/5] trial 1: - failed, batch_size" in told
    assert "(ZeroDivisionError: oh)" in told
    assert "[5/5] trial 6: 3.0, batch_size" in told
    text = (request.folder / "errors/trial_1.txt").read_text()
    assert "in run_one" in text
    assert "n_steps" in text
    lines = write_report(*find_study(request.options))
    assert lines[0].startswith("5 of 5 trials are done (3 complete, ")
    with (request.folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["outcome"] for row in rows] == found
    assert [row["reason"] for row in rows[:4]] == [
        "",
        "ZeroDivisionError: oh",
        "loss: nan",
        f"n_steps: got 3, {'x' * 80}",
    ]
    assert "x" * 80 in (request.folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("error", "outcome", "message"),
    [
        (ZeroDivisionError("a bug"), "failed", "3 trials failed, the last with ZeroDivisionError: a bug"),
        (InvalidValue("net_arc"), "refused", "the agent refused all 3 trials: net_arc"),
    ],
)
def test_trials_that_all_fail_end_the_study_soon(tmp_path, monkeypatch, capsys, error, outcome, message):
    scripted(monkeypatch, error)
    request, study = begin(tmp_path, n_trials=50)
    assert outcomes(run(request)) == [outcome] * 3
    assert message in problem_of(request, study)
    if outcome == "failed":  # the bug may have been mended
        assert problem_of(begin(tmp_path, n_trials=50)[0], study) is None
    else:
        assert tune.main([*words(tmp_path, n_trials=50), "--no-optim-plots"]) == tune.TROUBLE
        assert message in capsys.readouterr().err


def test_a_stop_in_the_middle_of_training_interrupts_the_trial_and_the_study_goes_on(tmp_path):
    class AfterSomeSteps(StopRequest):
        n_asked = 0

        @property
        def requested(self):
            self.n_asked += 1
            return self.n_asked > 120

    request, _ = begin(tmp_path, n_trials=1)
    interrupted, waiting = run(request, AfterSomeSteps())
    assert outcomes([interrupted, waiting]) == ["interrupted", "waiting"]
    assert len(interrupted.user_attrs["evaluations"][0]) == 1
    _, again = run(request)
    assert outcome_of(again) == "complete"
    assert again.params == interrupted.params
    assert again.user_attrs["seeds"] == interrupted.user_attrs["seeds"] == [request.training_seed(0, 0)]


def lose_a_trial(request, study, **attributes):
    """A worker begins a trial and is never heard of again."""
    trial = study.ask()
    request.space.suggest(trial)
    for key, value in {"worker": "gone", **attributes}.items():
        trial.set_user_attr(key, value)
    storage = open_storage(request.url, 15, new=False)
    storage.record_heartbeat(trial._trial_id)
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    return trial


def test_a_dead_workers_trial_is_retried_with_its_parameters_and_seeds(tmp_path, capsys):
    request, study = begin(tmp_path, n_trials=2)
    lost = lose_a_trial(request, study, outcome="diverged")
    work(request)
    trials = trials_of(request)
    assert outcomes(trials) == ["killed", "complete", "complete"]
    assert trials[1].params == lost.params
    assert trials[1].user_attrs["seeds"] == [request.training_seed(0, 0)]
    assert "[0/2] trial 0: - killed" in capsys.readouterr().out


def test_parameters_whose_worker_always_dies_are_given_up(tmp_path, monkeypatch):
    scripted(monkeypatch, 1.0)
    request, study = begin(tmp_path, n_trials=1)
    for _ in range(MAX_RETRIES + 1):
        lose_a_trial(request, study)
        storage = open_storage(request.url, 15, new=False)
        (trial_id,) = storage._get_stale_trial_ids(study._study_id)
        storage.set_trial_state_values(trial_id, state=FAIL)
        retry(request, study, storage.get_trial(trial_id))
    trials = run(request)
    assert Counter(outcomes(trials)) == {"killed": MAX_RETRIES + 1, "complete": 1}
    assert len({str(trial.params) for trial in trials}) == 2


def test_a_trial_that_was_given_up_for_dead_is_dropped(tmp_path, monkeypatch, capsys):
    calls = []

    def run_one(self, trial, score):
        self.request.space.suggest(trial)
        score.begin(0)
        if not calls:
            calls.append(trial)
            trial.storage._backend.set_trial_state_values(trial._trial_id, state=FAIL)
        score.add(1.0)
        return 1.0

    monkeypatch.setattr(Objective, "run", run_one)
    assert outcomes(run(begin(tmp_path, n_trials=1)[0])) == ["killed", "complete"]
    assert "its result is dropped" in capsys.readouterr().err


def test_a_trial_whose_worker_died_before_its_first_heartbeat_does_not_hold_the_study_up(tmp_path, monkeypatch):
    scripted(monkeypatch, 1.0)
    request, study = begin(tmp_path, "--heartbeat", "1", n_trials=1)
    study.ask()
    time.sleep(0.1)
    monkeypatch.setattr("sbbatch.zoo.tune.workers.MISSED_HEARTBEATS", 0)
    assert outcomes(run(request)) == ["killed", "complete"]


def test_no_trial_is_begun_after_the_deadline(tmp_path):
    request, _ = begin(tmp_path, "--timeout", "1000")
    assert 900 < request.deadline - time.time() < 1000
    assert run(replace(request, deadline=time.time() - 1)) == []


def test_a_trial_does_not_tell_of_an_option_that_studies_do_not_have(tmp_path, capsys):
    class Idle(gym.Env):
        observation_space, action_space = gym.spaces.Box(0, 1, (1,), np.float32), gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            return np.zeros(1, np.float32), 0.0, False, False, {}

    gym.register("Idle-v0", Idle, max_episode_steps=600)
    try:
        request, _ = begin(tmp_path, "--env", "Idle-v0", "--eval-max-steps", "600", n_trials=1)
        assert outcomes(run(request)) == ["complete"]
    finally:
        del gym.registry["Idle-v0"]
    assert "stuck" not in capsys.readouterr().err
