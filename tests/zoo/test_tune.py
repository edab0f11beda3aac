"""``sbbatch tune`` as a user types it: what it leaves behind, how it goes on, and how it refuses."""

import html
import subprocess
import sys

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from tune_tools import n_counted, states, words

from sbbatch.settings.reader import read_yaml
from sbbatch.settings.resolution import resolve
from sbbatch.zoo.commands import cli, train
from sbbatch.zoo.tune.search import search as tune


def load(logs, name="a"):
    url = f"sqlite:///{logs}/tune/dqn/CartPole-v1_{name}/study.db"
    return optuna.load_study(study_name=name, storage=url)


def refusal(capsys, *line):
    assert tune.main(list(line)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("sbbatch: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Two workers, four trials, and what the command printed."""
    logs = tmp_path_factory.mktemp("logs")
    command = [sys.executable, "-m", "sbbatch.zoo.commands.cli", "tune", *words(logs, "--n-jobs", "2", n_trials=4)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return logs, result.stdout


@pytest.fixture
def folder(done):
    return done[0] / "tune/dqn/CartPole-v1_a"


def test_a_study_leaves_its_files_and_says_where(done, folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    inner = {f"CartPole-v1/{name}" for name in ("args.yml", "command.txt", "config.yml")}
    maps = {f"heatmap_{pair}.png" for pair in ("batch_size_learning_rate", "batch_size_n_steps")}
    files = {"study.db", "best.yml", "trials.csv", "report.html", "history.png", "table.png"}
    assert names == inner | maps | files | {"heatmap_learning_rate_n_steps.png"}
    out = done[1]
    assert "4 of 4 trials are done (4 complete)" in out
    for name in ("best.yml", "trials.csv", "report.html"):
        assert str(folder / name) in out
    assert out.count("] trial ") == 4


def test_several_workers_train_every_slot_once(done):
    study = load(done[0])
    assert states(study) == [TrialState.COMPLETE] * 4
    assert [trial.user_attrs["slot"] for trial in study.trials] == [0, 1, 2, 3]


def test_the_best_settings_are_a_hyperparameter_file_that_reproduces_the_trial(done, folder, tmp_path):
    best = load(done[0]).best_trial
    settings = resolve("dqn", "CartPole-v1", conf_file=folder / "best.yml")
    for key, value in best.user_attrs["values"].items():
        assert settings[key].value == value
    assert settings["policy_kwargs"].value == {"net_arch": [8]}
    assert settings["n_timesteps"].value == 200
    # The command in the file's own comment, into another folder.
    line = next(line for line in (folder / "best.yml").read_text().splitlines() if line.startswith("# sbbatch train"))
    assert cli.main([*line.removeprefix("# sbbatch ").split(), "-f", str(tmp_path), "--verbose", "0"]) == 0
    with np.load(tmp_path / "dqn/CartPole-v1_1/evaluations.npz") as arrays:
        returns = arrays["results"].mean(axis=1).tolist()
    assert returns[:2] == best.user_attrs["evaluations"][0]


def test_the_best_settings_belong_to_the_agent_not_to_the_trial_alone(done, folder, tmp_path):
    words = ["--algo", "dqn", "--env", "CartPole-v1", "-conf", str(folder / "best.yml"), "-f", str(tmp_path)]
    assert train.main([*words, "-n", "100", "--seed", "5", "--eval-freq", "-1", "--verbose", "0"]) == 0
    config = read_yaml(tmp_path / "dqn/CartPole-v1_1/CartPole-v1/config.yml")
    assert config["batch_size"] == load(done[0]).best_trial.user_attrs["values"]["batch_size"]


def test_the_page_needs_nothing_but_itself(folder):
    page = (folder / "report.html").read_text()
    assert page.count("src='data:image/png;base64,") == 4
    assert "src='" not in page.replace("src='data:", "")
    assert "<script" not in page
    assert "<link" not in page
    assert html.escape("dqn on CartPole-v1: study a") in page


def test_the_same_command_goes_on_to_its_total(done, capsys):
    logs, _ = done
    before = load(logs).trials
    assert tune.main(words(logs, "--no-optim-plots", n_trials=4)) == 0
    assert "4 of 4 trials are done" in capsys.readouterr().out
    assert [trial.number for trial in load(logs).trials] == [trial.number for trial in before]
    assert tune.main(words(logs, "--no-optim-plots", "--max-total-trials", "5", n_trials=2)) == 0
    assert "5 of 5 trials are done (5 complete)" in capsys.readouterr().out
    assert n_counted(load(logs)) == 5


def test_a_report_can_be_written_again(done, folder, capsys):
    (folder / "best.yml").unlink()
    line = ["--algo", "dqn", "--env", "CartPole-v1", "-f", str(done[0]), "--report-only"]
    assert tune.main(line) == 0
    assert (folder / "best.yml").exists()
    assert tune.main([*line, "--study-name", "a", "--no-optim-plots"]) == 0
    assert "trials are done" in capsys.readouterr().out
    assert "no study 'b' of dqn on CartPole-v1" in refusal(capsys, *line, "--study-name", "b")
    assert "there are a" in refusal(capsys, *line, "--study-name", "b")
    assert "no study of dqn on Acrobot-v1" in refusal(capsys, *line, "--env", "Acrobot-v1")


def test_a_folder_under_another_algorithm_is_refused(done, folder, capsys, tmp_path):
    other = tmp_path / "tune/qrdqn/CartPole-v1_a"
    other.mkdir(parents=True)
    (other / "study.db").write_bytes((folder / "study.db").read_bytes())
    line = ["--algo", "qrdqn", "--env", "CartPole-v1", "-f", str(tmp_path), "--study-name", "a"]
    assert "it was begun with --algo dqn, not qrdqn" in refusal(capsys, *line, "--report-only")
    assert "it was begun with --algo dqn, not qrdqn" in refusal(capsys, *line)


def test_studies_without_a_name_are_numbered(tmp_path, monkeypatch):
    monkeypatch.setattr("sbbatch.zoo.tune.pool.run_workers", lambda *_: None)
    line = words(tmp_path, "--no-optim-plots")
    at = line.index("--study-name")
    for _ in range(2):
        assert tune.main(line[:at] + line[at + 2 :]) == 0
    names = sorted(path.name for path in (tmp_path / "tune/dqn").iterdir())
    assert names == ["CartPole-v1_batch-lr-nstep_1", "CartPole-v1_batch-lr-nstep_2"]


def test_a_trial_takes_a_fifth_of_a_run_unless_told_otherwise(tmp_path):
    from sbbatch.zoo.tune.request import read_arguments, read_request

    def budget(*more):
        return read_request(read_arguments(["--algo", "dqn", "--env", "CartPole-v1", *more])).budget

    assert budget().n_timesteps == 10_000  # of 50,000
    assert budget("-n", "3000").n_timesteps == 3000
    assert budget("-params", "n_timesteps:4000").n_timesteps == 4000
    assert budget().eval_max_steps is None
    assert (budget().n_eval_envs, budget("--n-eval-envs", "2").n_eval_envs) == (10, 2)
    pytest.importorskip("minatar")
    minatar = budget("--env", "MinAtar/Breakout-v1")
    assert (minatar.n_timesteps, minatar.eval_max_steps, minatar.n_eval_envs) == (200_000, 10_000, 10)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--algo", "dqm"], "unknown algorithm 'dqm'; did you mean 'dqn'?"),
        (["--env", "CartPole-v9"], "unknown environment 'CartPole-v9'"),
        (["--space", "batch-lr"], "--space: unknown space 'batch-lr'; did you mean 'batch-lr-nstep'?"),
        (["--sampler", "tpee"], "--sampler: unknown sampler 'tpee'; did you mean 'tpe'?"),
        (["--pruner", "medium"], "--pruner: unknown pruner 'medium'; did you mean 'median'?"),
        (["--n-trials", "0"], "--n-trials: got 0, expected an int >= 1"),
        (["--n-trials", "1e2"], "--n-trials: got '1e2', expected an int >= 1; did you mean 100?"),
        (["--max-total-trials", "0"], "--max-total-trials: got 0, expected an int >= 1"),
        (["--n-jobs", "0"], "--n-jobs: got 0, expected an int between 1 and 1024"),
        (["--n-seeds", "0"], "--n-seeds: got 0"),
        (["--n-evaluations", "0"], "--n-evaluations: got 0"),
        (["-n", "2000", "--n-evaluations", "3000"], "--n-evaluations: got 3000, expected at most the 2000 agent steps"),
        (
            ["-n", "2000", "-params", "n_envs:4", "--n-evaluations", "501"],
            "--n-evaluations: got 501, expected at most the 2000 agent steps, which are 500 in each environment",
        ),
        (["-n", "500"], "learning_starts 1000 >= 500 agent steps of a trial: no update would happen"),
        (["-n", "500", "-params", "n_timesteps:600"], "n_timesteps is given twice"),
        (["--study-name", "../x"], "--study-name: got '../x', expected letters, digits"),
        (["--study-name", ""], "--study-name: got ''"),
        (["--n-trail", "3"], "unknown option '--n-trail'; did you mean '--n-trials'?"),
        (["-params", "bach_size:3"], "unknown key 'bach_size'; did you mean 'batch_size'?"),
        (["-params", "batch_size:3"], "batch_size is searched, and given with -params too"),
        (["-conf", "missing.yml"], "no such file: missing.yml"),
        (["--report-only"], "no study of dqn on CartPole-v1"),
    ],
)
def test_a_mistake_is_told_in_one_sentence_and_leaves_nothing_behind(tmp_path, capsys, line, message):
    logs = tmp_path / "logs"
    assert message in refusal(capsys, "--algo", "dqn", "--env", "CartPole-v1", "-f", str(logs), *line)
    assert not logs.exists()


def test_missing_packages_are_named(tmp_path, capsys, monkeypatch):
    line = ["--algo", "dqn", "--env", "CartPole-v1", "-f", str(tmp_path / "logs")]
    monkeypatch.setattr("sbbatch.zoo.tune.request.find_spec", lambda name: None)
    assert "--sampler cmaes needs cmaes; run pip install 'sbbatch[tune]'" in refusal(
        capsys, *line, "--sampler", "cmaes"
    )
    monkeypatch.setattr("sbbatch.zoo.tune.search.find_spec", lambda name: None)
    assert "tune needs optuna; run pip install 'sbbatch[tune]'" in refusal(capsys, *line)
    assert not (tmp_path / "logs").exists()


def test_without_optuna_only_tune_is_missing():
    code = "import sys; sys.modules['optuna'] = None; from sbbatch.zoo import cli; sys.exit(cli.main(sys.argv[1:]))"
    shown = subprocess.run([sys.executable, "-c", code, "tune", "--help"], capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "--n-startup-trials" in shown.stdout


def test_without_matplotlib_there_are_tables_and_a_sentence(done, folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    line = ["--algo", "dqn", "--env", "CartPole-v1", "-f", str(done[0]), "--study-name", "a", "--report-only"]
    assert tune.main(line) == 0
    assert "no pictures: plots need matplotlib" in capsys.readouterr().out
    assert "<img" not in (folder / "report.html").read_text()


def test_trials_that_all_fail_end_the_command_with_the_reason(tmp_path, capsys):
    file = tmp_path / "mine.yml"
    file.write_text("policy_kwargs.net_arc: {choices: [[8], [16]]}")  # only the network knows its arguments
    assert tune.main(words(tmp_path, "--space", str(file), n_trials=20)) == tune.HOPELESS
    captured = capsys.readouterr()
    assert "the agent refused all" in captured.err
    assert "net_arc" in captured.err
    assert "no trial is complete" in captured.out
    assert "best:" not in captured.out


@pytest.mark.parametrize(
    ("option", "key"),
    [("--env-kwargs", "env_kwargs"), ("--eval-env-kwargs", "eval_env_kwargs or env_kwargs")],
)
def test_an_argument_that_the_environment_does_not_know_is_told_before_the_study(tmp_path, capsys, option, key):
    assert tune.main(words(tmp_path, option, "gravty:1")) == 2
    assert f"error: {key}: CartPole-v1 cannot be made with {{'gravty': 1}}" in capsys.readouterr().err
    assert not list(tmp_path.rglob("study.db"))
