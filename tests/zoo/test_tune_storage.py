"""Databases of studies: what cannot hold one is refused in one sentence, and PostgreSQL really holds one."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState
from tune_tools import begin, n_counted, states, storage_of, words

from sbbatch.errors import InvalidValue
from sbbatch.zoo.tune.search import place as tune_place
from sbbatch.zoo.tune.search import search as tune
from sbbatch.zoo.tune.search import storage as tune_storage
from sbbatch.zoo.tune.storage import check_url, open_storage, shown, sqlite_url, storage_errors

TOOLS = ("initdb", "pg_ctl", "postgres")


def refusal(capsys, *line):
    assert tune.main(list(line)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("study.log", "got 'study.log', a journal, which has no heartbeat"),
        ("journal.log", "which one torn line makes unreadable; give sqlite:///FILE.db for one host"),
        ("redis://localhost", "a journal, which has no heartbeat"),
        ("study.db", "expected the URL of a database; did you mean sqlite:///study.db?"),
        ("somewhere", "got 'somewhere', expected the URL of a database; give sqlite:///FILE.db"),
        ("sqlite://", "a database in memory cannot be shared by workers"),
        ("sqlite:///:memory:", "a database in memory cannot be shared by workers"),
        ("oracel://me@host/db", "unknown kind of database 'oracel'"),
        ("postgresql+nosuch://me@host/db", "unknown kind of database 'postgresql+nosuch'"),
        ("postgresql://me:secret@host:port/db", "this is not the URL of a database"),
    ],
)
def test_what_cannot_hold_a_study_is_refused_before_anything_is_made(tmp_path, capsys, url, message):
    error = refusal(capsys, *words(tmp_path / "logs", "--storage", url))
    assert message in error
    assert "secret" not in error
    assert not (tmp_path / "logs").exists()


def test_a_storage_without_a_name_of_the_study_is_refused(tmp_path, capsys):
    line = ["--algo", "dqn", "--env", "CartPole-v1", "-f", str(tmp_path), "--storage", "sqlite:///a.db"]
    assert "--storage needs --study-name" in refusal(capsys, *line)


def test_a_missing_driver_is_named_with_its_remedy(tmp_path, capsys):
    for package in ("pg8000", "MySQLdb"):
        if find_spec(package) is not None:
            pytest.skip(f"{package} is installed here")
    line = words(tmp_path / "logs", "--storage", "postgresql+pg8000://me:secret@localhost/db")
    error = refusal(capsys, *line)
    assert "needs the package pg8000, which is not installed; run pip install 'psycopg[binary]'" in error
    assert "secret" not in error
    assert "run pip install mysqlclient" in refusal(
        capsys, *words(tmp_path / "logs", "--storage", "mysql://me@localhost/db")
    )


def test_a_server_that_does_not_answer_is_told(tmp_path, capsys):
    pytest.importorskip("psycopg")
    line = words(tmp_path / "logs", "--storage", "postgresql+psycopg://me:secret@127.0.0.1:1/db")
    error = refusal(capsys, *line)
    assert "storage postgresql+psycopg://me:***@127.0.0.1:1/db cannot be used (connection" in error
    assert "secret" not in error
    assert not (tmp_path / "logs").exists()


def test_a_damaged_file_is_told(tmp_path, capsys):
    plan, _ = begin(tmp_path)
    file = plan.folder / "study.db"
    whole = file.read_bytes()
    file.write_bytes(b"no database at all" * 100)
    assert f"storage {file} cannot be used (file is not a database)" in refusal(capsys, *words(tmp_path))
    file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    assert f"storage {file} cannot be used (database disk image is malformed)" in refusal(capsys, *words(tmp_path))
    assert refusal(capsys, *words(tmp_path, "--report-only")).startswith(f"sbbatch: error: storage {file}")


def test_a_file_in_a_folder_that_is_missing_is_told(tmp_path, capsys):
    line = words(tmp_path / "logs", "--storage", f"sqlite:///{tmp_path}/missing/a.db")
    assert "cannot be used (unable to open database file)" in refusal(capsys, *line)


def test_a_report_makes_no_database(tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/new.db"
    assert f"no such file: {tmp_path}/new.db" in refusal(capsys, *words(tmp_path, "--storage", url, "--report-only"))
    assert not (tmp_path / "new.db").exists()
    begin(tmp_path, "--storage", url)
    line = words(tmp_path, "--storage", url, "--report-only", name="other")
    assert "no study 'other' in" in refusal(capsys, *line)


def test_tables_of_another_version_of_optuna_are_told(tmp_path, capsys):
    plan, study = begin(tmp_path)
    with storage_of(study).engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v9.9.9.a'")
    assert "cannot be used (" in refusal(capsys, *words(tmp_path))
    assert plan.folder.is_dir()


@pytest.mark.parametrize("n_failures", [1, 9])
def test_tables_that_another_command_makes_at_the_same_moment_are_waited_for(tmp_path, monkeypatch, n_failures):
    left = [sqlite3.OperationalError("table studies already exists")] * n_failures
    make = tune_storage.RDBStorage

    def made(*args, **kwargs):
        if left:
            raise sqlalchemy.exc.OperationalError("CREATE TABLE studies", None, left.pop())
        return make(*args, **kwargs)

    monkeypatch.setattr(tune_storage, "RDBStorage", made)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    if n_failures == 1:
        assert open_storage(sqlite_url(tmp_path / "a.db"), 15).get_all_studies() == []
    else:
        with pytest.raises(InvalidValue, match="table studies already exists"):
            open_storage(sqlite_url(tmp_path / "a.db"), 15)


def test_passwords_are_not_written_down(tmp_path):
    assert shown("postgresql+psycopg://me:secret@host/db") == "postgresql+psycopg://me:***@host/db"
    assert shown(sqlite_url(tmp_path / "a.db")) == str(tmp_path / "a.db")
    url = f"sqlite:///{tmp_path}/a.db"
    plan, _ = begin(tmp_path, "--storage", url)
    assert f"--storage {tmp_path}/a.db" in (plan.run.parameters / "command.txt").read_text()


@pytest.mark.parametrize("option", [["--storage", "{}"], ["--storage={}"]])
def test_a_password_is_in_no_file_of_a_study(tmp_path, monkeypatch, option):
    url = "postgresql+psycopg://me:secret@127.0.0.1:1/db"
    _, study = begin(tmp_path)
    monkeypatch.setattr(tune_place, "open_storage", lambda *_: study._storage)
    monkeypatch.setattr(tune_place, "join_study", lambda *_, **__: study)
    begin(tmp_path / "other", *(word.format(url) for word in option))
    written = [path.read_text() for path in (tmp_path / "other").rglob("*") if path.is_file()]
    assert len(written) == 3
    assert any("postgresql+psycopg://me:***@127.0.0.1:1/db" in text for text in written)
    assert not any("secret" in text for text in written)


def test_transactions_on_sqlite_begin_with_the_lock(tmp_path):
    url = sqlite_url(tmp_path / "a.db")
    engines = [open_storage(url, 15).engine for _ in range(2)]
    with engines[0].connect() as first, engines[1].connect() as second:
        second.exec_driver_sql("PRAGMA busy_timeout = 50")
        second.rollback()
        first.exec_driver_sql("SELECT 1")  # a reader who may write next
        with pytest.raises(sqlalchemy.exc.OperationalError, match="locked"):
            second.exec_driver_sql("SELECT 1")


def test_other_errors_keep_their_traceback(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"), storage_errors(sqlite_url(tmp_path / "a.db")):
        raise RuntimeError("a bug")
    with pytest.raises(InvalidValue), storage_errors(sqlite_url(tmp_path / "a.db")):
        raise optuna.exceptions.StorageInternalError("gone")
    check_url("postgresql+psycopg://me@host/db")


def _find(tool):
    places = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # where Debian hides them
    return next((place / tool for place in places if (place / tool).is_file()), None)


@pytest.fixture(scope="module")
def postgres():
    """URL of a PostgreSQL server of our own on a socket, which ends with the tests."""
    pytest.importorskip("psycopg")
    missing = [tool for tool in TOOLS if _find(tool) is None]
    if missing:
        pytest.skip(f"{missing[0]} of PostgreSQL is not installed")
    user = {} if os.geteuid() else {"user": "nobody", "group": "nogroup", "extra_groups": []}  # it refuses root
    with tempfile.TemporaryDirectory() as folder:  # short: the path of a socket has at most 107 characters
        if user:
            shutil.chown(folder, user["user"])
        data, log = f"{folder}/data", f"{folder}/log"

        def run(*command):
            result = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300, **user)
            assert result.returncode == 0, result.stderr + (Path(log).read_text() if Path(log).exists() else "")

        run(_find("initdb"), "-D", data, "-U", "me", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
        run(_find("pg_ctl"), "-D", data, "-l", log, "-w", "-t", "240", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://me@/postgres?host={folder}"
        finally:
            run(_find("pg_ctl"), "-D", data, "-m", "immediate", "stop")


def test_two_hosts_share_a_study_on_postgresql(postgres, tmp_path):
    processes = []
    for host in ("one", "two"):
        line = words(tmp_path / host, "--storage", postgres, name="shared", n_trials=5)
        command = [sys.executable, "-m", "sbbatch.zoo.commands.cli", "tune", *line, "--no-optim-plots"]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    for process in processes:
        out, error = process.communicate(timeout=600)
        assert process.returncode == 0, error
        assert "5 of 5 trials are done" in out
    study = optuna.load_study(study_name="shared", storage=postgres)
    assert n_counted(study) == 5
    assert sorted(trial.user_attrs["slot"] for trial in study.trials if trial.state is TrialState.COMPLETE) == [
        *range(5)
    ]
    for host in ("one", "two"):
        assert (tmp_path / host / "tune/dqn/CartPole-v1_shared/best.yml").exists()
    best = [(tmp_path / host / "tune/dqn/CartPole-v1_shared/trials.csv").read_text() for host in ("one", "two")]
    assert best[0] == best[1]


def test_a_dead_trial_is_found_and_repeated_on_postgresql(postgres, tmp_path):
    from sbbatch.zoo.tune.study import claim, refill
    from sbbatch.zoo.tune.worker import work

    plan, study = begin(tmp_path, "--storage", postgres, name="dead", n_trials=2)
    refill(study, 2)
    storage = storage_of(study)
    dead = claim(study, storage, 2)
    values = plan.space.suggest(dead)
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    work(plan)
    assert states(study) == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert plan.space.values(study.trials[2].params) == values
