"""Where a study is kept: any database Optuna's ``RDBStorage`` knows, made safe for several workers."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback

from sbbatch.errors import InvalidValue

# A heartbeat may be late by a slow disk or a busy core, but not by this many.
MISSED_HEARTBEATS = 4
# Settings whose worker dies again and again probably kill it, e.g. by their need of memory.
MAX_REPEATS = 3
_ATTEMPTS = 4
_EXISTS = ("already exists", "duplicate key", "UNIQUE constraint", "Duplicate entry")
_CONNECT_SECONDS = 10
_PACKAGES = {"MySQLdb": "mysqlclient"}  # module -> what pip calls it
_LOCK_SECONDS = 120  # SQLite lets one process write at a time


def quiet_optuna() -> None:
    """Its log would repeat ours, and the heartbeat is "experimental" since 2021."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def sqlite_url(file: Path) -> str:
    """
    :param file: of a study
    """
    return f"sqlite:///{file.absolute()}"


def check_url(text: str) -> None:
    """
    Refuse what cannot hold a study of several workers, before anything is made.

    :param text: value of ``--storage``
    :raises InvalidValue: a journal, a store in memory, or no URL of a database
    """
    instead = "give sqlite:///FILE.db for one host, or postgresql+psycopg://USER@HOST/DATABASE for several"
    if text.endswith((".log", ".journal")) or text.startswith(("redis:", "rediss:", "journal:")):
        raise InvalidValue(
            f"--storage: got '{text}', a journal, which has no heartbeat, so that killed trials would run for ever, "
            f"and which one torn line makes unreadable; {instead}"
        )
    if "://" not in text:
        hint = f"; did you mean sqlite:///{text}?" if text.endswith((".db", ".sqlite", ".sqlite3")) else f"; {instead}"
        raise InvalidValue(f"--storage: got '{text}', expected the URL of a database{hint}")
    try:
        url = sa.make_url(text)
        url.get_dialect()
    except sa.exc.NoSuchModuleError:
        raise InvalidValue(f"--storage: unknown kind of database '{url.drivername}'; {instead}") from None
    except (sa.exc.ArgumentError, ValueError):  # its text would show a password
        raise InvalidValue(f"--storage: this is not the URL of a database; {instead}") from None
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise InvalidValue(f"--storage: a database in memory cannot be shared by workers; {instead}")


def check_exists(url: str) -> None:
    """
    :param url: of a storage
    :raises InvalidValue: it is a SQLite file, which connecting would make
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(str(parsed.database)).is_file():
        raise InvalidValue(f"no such file: {parsed.database}")


def shown(url: str) -> str:
    """
    :param url: of a storage
    :return: without its password; of SQLite only the file
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return str(parsed.database)
    return parsed.render_as_string(hide_password=True)


def open_storage(url: str, heartbeat: int) -> RDBStorage:
    """
    Connect to a database, and make its tables if it is new.

    :param url: e.g. from :func:`sqlite_url`
    :param heartbeat: seconds between signs of life of a trial
    :raises InvalidValue: the driver is missing, nobody answers, or it holds something else
    """
    quiet_optuna()
    with storage_errors(url):
        try:
            storage = _connect(url, heartbeat)
        except ImportError as error:
            raise InvalidValue(_missing_driver(url, error)) from None
    if storage.engine.dialect.name == "sqlite":
        _lock_first(storage.engine)
    return storage


def _connect(url: str, heartbeat: int) -> RDBStorage:
    for attempt in range(_ATTEMPTS):
        try:
            return RDBStorage(
                url,
                engine_kwargs=_engine_arguments(url),
                heartbeat_interval=heartbeat,
                grace_period=MISSED_HEARTBEATS * heartbeat,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(MAX_REPEATS),
            )
        except sa.exc.DBAPIError as error:
            # Two commands that begin at once both make the tables, and one of them finds that they exist after all.
            if attempt == _ATTEMPTS - 1 or not any(words in str(error.orig) for words in _EXISTS):
                raise
            time.sleep(1.0 + random.random())
    raise AssertionError("unreachable")


def _engine_arguments(url: str) -> dict[str, Any]:
    backend = sa.make_url(url).get_backend_name()
    if backend == "sqlite":
        return {"connect_args": {"timeout": _LOCK_SECONDS}}
    # A server that was restarted is found again.
    arguments: dict[str, Any] = {"pool_pre_ping": True}
    if backend == "postgresql":
        arguments["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
    return arguments


def _missing_driver(url: str, error: ImportError) -> str:
    cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    module = getattr(cause, "name", None) or "its driver"
    package = _PACKAGES.get(module, module)
    if sa.make_url(url).get_backend_name() == "postgresql":
        remedy = "run pip install 'psycopg[binary]' and give postgresql+psycopg://..."
    else:
        remedy = f"run pip install {package}"
    return f"--storage: {shown(url)} needs the package {package}, which is not installed; {remedy}"


def _lock_first(engine: sa.Engine) -> None:
    """
    Let every transaction on SQLite begin by taking the lock (SQLAlchemy's recipe).

    By default one only begins at its first write. Two workers that both read "waiting" then both write "running", and
    both run the same trial: with four quick workers 15 of 100 trials were run twice.
    """

    @sa.event.listens_for(engine, "connect")
    def _leave_transactions_to_us(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections that were made before


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """
    Tell in one sentence what the database says in many lines.

    :param url: of the storage
    :raises InvalidValue: instead of the errors of Optuna and SQLAlchemy
    """
    try:
        yield
    except (sa.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise InvalidValue(f"storage {shown(url)} cannot be used ({_reason(error)})") from error
    except RuntimeError as error:  # tables of another version of Optuna
        if "optuna" not in str(error) or isinstance(error, optuna.exceptions.OptunaError):
            raise
        raise InvalidValue(f"storage {shown(url)} cannot be used ({' '.join(str(error).split())})") from error


def _reason(error: BaseException) -> str:
    """The driver's own first line; SQLAlchemy surrounds it by statements and links."""
    if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    original = getattr(error, "orig", None) or error
    lines = [line.strip() for line in str(original).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(original).__name__
