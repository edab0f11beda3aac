"""Studies: found again by their name, refused if they are others, in databases that several hosts can share."""

import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState
from tune_tools import begin, request_of, run, scripted, trials_of, words

from sbbatch.errors import InvalidValue
from sbbatch.zoo.commands import tune
from sbbatch.zoo.tune.storage import open_storage, shown
from sbbatch.zoo.tune.study import find_study, make_pruner, make_sampler, n_counted, start_study

DQN = ["--algo", "dqn", "--env", "CartPole-v1"]


def refusal(capsys, *line):
    assert tune.main(list(line)) == 2
    error = capsys.readouterr().err
    assert error.startswith("sbbatch: error: ")
    assert error.count("\n") == 1
    return error


def test_seeds_follow_from_the_study_and_the_trial(tmp_path):
    request, _ = begin(tmp_path)
    seeds = [request.training_seed(trial, index) for trial in range(50) for index in range(4)]
    assert len(set(seeds)) == 200
    assert max(seeds) < 2**30
    assert replace(request, seed=2).training_seed(3, 1) != request.training_seed(3, 1)


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes", "qmc", "gp"])
def test_parameters_are_the_same_in_two_sittings_as_in_one(name):
    def parameters(seed, *sittings):
        request = replace(request_of(*DQN, "--sampler", name, "--n-startup-trials", "2"), seed=seed)
        study = optuna.create_study(direction="maximize")
        for n_trials in sittings:
            study.sampler = make_sampler(request)
            study.optimize(lambda trial: -abs(request.space.suggest(trial)["n_steps"] - 3.0), n_trials=n_trials)
        return [trial.params for trial in study.trials]

    first = parameters(0, 5)
    assert first == parameters(0, 3, 2)
    assert first != parameters(1, 5)
    assert len({params["learning_rate"] for params in first}) == 5


def test_pruners_by_name(tmp_path):
    kinds = {"none": "NopPruner", "median": "MedianPruner", "halving": "SuccessiveHalvingPruner"}
    for name, kind in {**kinds, "hyperband": "HyperbandPruner"}.items():
        assert type(make_pruner(request_of(*DQN, "--pruner", name))).__name__ == kind


def test_a_study_goes_on_with_what_it_was_begun_with(tmp_path):
    request, study = begin(tmp_path, "--seed", "-1")
    more = ["--seed", "-1", "--n-jobs", "2", "--sampler", "random", "--pruner", "none", "--n-seeds", "1"]
    again, same = begin(tmp_path, *more)
    assert same._study_id == study._study_id
    assert (again.seed, again.space, again.budget) == (request.seed, request.space, request.budget)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--n-seeds", "2"], "study 'a' was begun with n_seeds 1, not 2"),
        (["--abs"], "begun with space batch-lr-nstep, not batch-lr-nstep-abs"),
        (["--seed", "7"], "begun with seed 1, not 7"),
        (["-n", "300"], "begun with n_timesteps 200, not 300"),
        (["-params", "gamma:0.5"], "begun with gamma 0.99, not 0.5"),
        (["--env", "Acrobot-v1"], "begun with env CartPole-v1, not Acrobot-v1"),
        (["--algo", "qrdqn"], "begun with algo dqn, not qrdqn"),
    ],
)
def test_another_study_of_the_same_name_is_refused(tmp_path, more, message):
    url = ["--storage", f"sqlite:///{tmp_path}/a.db"]
    begin(tmp_path, *url)
    with pytest.raises(InvalidValue) as caught:
        begin(tmp_path, *url, *more)
    assert message in str(caught.value)
    assert "another --study-name" in str(caught.value)
    assert not (tmp_path / "tune/qrdqn").exists()


def test_a_study_of_another_program_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    optuna.create_study(study_name="a", storage=url).optimize(lambda trial: 1.0, n_trials=1)
    with pytest.raises(InvalidValue, match="was not made by sbbatch tune"):
        begin(tmp_path, "--storage", url)


def test_studies_without_a_name_are_numbered_and_the_latest_is_found(tmp_path):
    line = [word for word in words(tmp_path) if word not in ("--study-name", "a")]
    for n in (1, 2):
        request, _ = tune_start(line)
        assert request.folder == tmp_path / f"tune/dqn/CartPole-v1_batch-lr-nstep_{n}"
    os.utime(request.folder / "study.db", (2**31, 2**31))
    assert find_study(tune.read_options(line))[0].folder == request.folder
    with pytest.raises(InvalidValue, match="there are: batch-lr-nstep_1, batch-lr-nstep_2"):
        find_study(tune.read_options([*line, "--study-name", "b"]))


def tune_start(line):
    return start_study(request_of(*line), line)


def test_a_trial_takes_a_fifth_of_a_run_unless_told_otherwise():
    assert request_of(*DQN).budget.n_timesteps == 10_000  # of 50,000
    assert request_of(*DQN, "-n", "3000").budget.n_timesteps == 3000
    assert request_of(*DQN, "-params", "n_timesteps:4000").budget.n_timesteps == 4000
    assert request_of(*DQN, "--n-eval-envs", "2").budget.n_eval_envs == 2
    pytest.importorskip("minatar")
    minatar = request_of("--algo", "dqn", "--env", "MinAtar/Breakout-v1").budget
    assert (minatar.n_timesteps, minatar.eval_max_steps, minatar.n_eval_envs) == (200_000, 10_000, 10)
    suite = request_of("--algo", "rainbow", "--env", "ALE/Pong-v5", "--suite", "atari100k", "-n", "5000")
    assert (suite.settings["atari_protocol"], suite.budget.n_timesteps) == ("atari100k", 5000)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--algo", "dqnn"], "did you mean 'dqn'?"),
        (["--env", "CartPole-v9"], "CartPole-v9"),
        (["--env-kwargs", "gravty:1"], "CartPole-v1 cannot be made with {'gravty': 1}"),
        (["--space", "batch-lr"], "did you mean 'batch-lr-nstep'?"),
        (["--space", "missing.yml"], "missing.yml"),
        (["--sampler", "tpee"], "'tpee'"),
        (["--pruner", "medium"], "'medium'"),
        (["--n-trials", "0"], "--n-trials"),
        (["-n", "4000", "-params", "n_envs:4", "--n-evaluations", "1001"], "--n-evaluations: got 1001"),
        (["--study-name", "../x"], "--study-name"),
        (["--storage", "sqlite:///a.db"], "--storage needs --study-name"),
        (["--study-name", "a", "--storage", "study.log"], "not the URL of a database"),
        (["--study-name", "a", "--storage", "sqlite://"], "in memory"),
        (["--study-name", "a", "--storage", "redis://localhost"], "not the URL of a database"),
        (["--study-name", "a", "--storage", "postgresql://me:secret@host:port/db"], "not the URL of a database"),
        (["--study-name", "a", "--storage", "postgresql+pg8000://me:secret@h/db"], "needs pg8000"),
        (["--study-name", "a", "--storage", "postgresql+psycopg://me:secret@127.0.0.1:1/db"], "cannot be used (conn"),
        (["--n-trail", "3"], "did you mean '--n-trials'?"),
        (["-params", "bach_size:3"], "did you mean 'batch_size'?"),
        (["-params", "batch_size:3"], "batch_size is searched"),
        (["--report-only"], "no such study of dqn on CartPole-v1"),
        (["--report-only", "--study-name", "a", "--storage", "sqlite:///nowhere.db"], "no such file: nowhere.db"),
    ],
)
def test_a_mistake_is_told_in_one_sentence_and_leaves_nothing_behind(tmp_path, monkeypatch, capsys, line, message):
    monkeypatch.chdir(tmp_path)
    error = refusal(capsys, *DQN, *line)
    assert message in error
    assert "secret" not in error
    assert list(tmp_path.iterdir()) == []


def test_short_trainings_get_a_shorter_warm_up(capsys):
    assert request_of(*DQN, "-n", "500").settings["learning_starts"] == 50
    assert "learning_starts 1,000 is too much for n_timesteps 500: lowered to 50" in capsys.readouterr().err


def test_a_damaged_database_is_told(tmp_path, capsys):
    request, study = begin(tmp_path)
    with study._storage._backend.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
    assert "study.db cannot be used (" in refusal(capsys, *words(tmp_path))
    (request.folder / "study.db").write_bytes(b"no database at all" * 100)
    assert "study.db cannot be used (file is not a database)" in refusal(capsys, *words(tmp_path))


@pytest.mark.parametrize("option", [["--storage", "{}"], ["--storage={}"]])
def test_a_password_is_in_no_file_of_a_study(tmp_path, monkeypatch, option):
    url = "postgresql+psycopg://me:secret@127.0.0.1:1/db"
    storage = open_storage(f"sqlite:///{tmp_path}/a.db", 15, new=True)
    monkeypatch.setattr("sbbatch.zoo.tune.study.open_storage", lambda *_, **__: storage)
    begin(tmp_path / "logs", *(word.format(url) for word in option))
    written = [path.read_text() for path in (tmp_path / "logs").rglob("*") if path.is_file()]
    assert len(written) == 3
    assert any(shown(url) in text for text in written)
    assert not any("secret" in text for text in written)


def test_transactions_on_sqlite_begin_with_the_lock(tmp_path):
    url = f"sqlite:///{tmp_path}/a.db"
    engines = [open_storage(url, 15, new=True).engine for _ in range(2)]
    with engines[0].connect() as first, engines[1].connect() as second:
        second.exec_driver_sql("PRAGMA busy_timeout = 50")
        second.rollback()
        first.exec_driver_sql("SELECT 1")  # a reader who may write next
        with pytest.raises(sqlalchemy.exc.OperationalError, match="locked"):
            second.exec_driver_sql("SELECT 1")


def two_hosts(logs, url, monkeypatch, n_trials):
    """Both begin at the same moment, each with two workers; the trials that count, and those that were run."""
    scripted(monkeypatch, lambda values: float(values["n_steps"]))

    def host(name):
        request, _ = begin(logs / name, "--storage", url, name="shared", n_trials=n_trials)
        with ThreadPoolExecutor(2) as workers:
            list(workers.map(run, [request] * 2))
        return request

    with ThreadPoolExecutor(2) as hosts:
        request = next(iter(list(hosts.map(host, ["one", "two"]))))
    _, study = find_study(request.options)
    ran = [trial for trial in trials_of(request) if trial.user_attrs.get("seeds")]
    assert n_counted(study) == len(ran) == n_trials
    assert all(trial.state is not TrialState.RUNNING for trial in study.trials)


def test_workers_that_begin_together_give_exactly_the_number_of_trials(tmp_path, monkeypatch):
    two_hosts(tmp_path, f"sqlite:///{tmp_path}/a.db", monkeypatch, 5)


def _find(tool):
    places = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # where Debian hides them
    return next((place / tool for place in places if (place / tool).is_file()), None)


@pytest.fixture
def postgres():
    """URL of a PostgreSQL server of our own on a socket, which ends with the test."""
    pytest.importorskip("psycopg")
    missing = [tool for tool in ("initdb", "pg_ctl", "postgres") if _find(tool) is None]
    if missing:
        pytest.skip(f"{missing[0]} of PostgreSQL is not installed")
    user = {} if os.geteuid() else {"user": "nobody", "group": "nogroup", "extra_groups": []}  # it refuses root
    with tempfile.TemporaryDirectory() as folder:  # short: the path of a socket has at most 107 characters
        if user:
            shutil.chown(folder, user["user"])
        data, log = f"{folder}/data", f"{folder}/log"

        def call(*command):
            result = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300, **user)
            assert result.returncode == 0, result.stderr + (Path(log).read_text() if Path(log).exists() else "")

        call(_find("initdb"), "-D", data, "-U", "me", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
        call(_find("pg_ctl"), "-D", data, "-l", log, "-w", "-t", "240", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://me@/postgres?host={folder}"
        finally:
            call(_find("pg_ctl"), "-D", data, "-m", "immediate", "stop")


def test_two_hosts_share_a_study_on_postgresql(postgres, tmp_path, monkeypatch):
    two_hosts(tmp_path, postgres, monkeypatch, 5)
