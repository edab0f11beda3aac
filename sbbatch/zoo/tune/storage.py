"""The database of a study: any that Optuna's ``RDBStorage`` knows and several processes can share."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from sbbatch.errors import InvalidValue

# A heartbeat may be late by a slow disk or a busy core, but not by this many.
MISSED_HEARTBEATS = 4
_ATTEMPTS = 4
_LOCK_SECONDS = 120  # SQLite lets one process write at a time
_EXPECTED = "sqlite:///FILE.db for one host, or postgresql+psycopg://USER@HOST/DATABASE for several"


def check_url(text: str) -> None:
    """
    Refuse what cannot hold a study of several workers, before anything is made.

    :param text: value of ``--storage``
    :raises InvalidValue: no URL of a database, its driver is missing, or it is in memory
    """
    try:
        url = sa.make_url(text)
        url.get_dialect().import_dbapi()
    except (sa.exc.ArgumentError, ValueError):  # what it says would show a password
        raise InvalidValue(f"--storage: this is not the URL of a database; give {_EXPECTED}") from None
    except ImportError as error:
        raise InvalidValue(
            f"--storage: {shown(text)} needs {error.name}; pip install 'sbbatch[postgres]' has psycopg"
        ) from None
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise InvalidValue(f"--storage: a database in memory cannot be shared by workers; give {_EXPECTED}")


def shown(url: str) -> str:
    """
    :param url: of a storage
    :return: without its password; of SQLite only the file
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return str(parsed.database)
    return parsed.render_as_string(hide_password=True)


def open_storage(
    url: str, heartbeat: int, new: bool, on_stale: Callable[[optuna.Study, FrozenTrial], None] | None = None
) -> RDBStorage:
    """
    Connect to a database.

    :param url: of the database
    :param heartbeat: seconds between signs of life of a trial
    :param new: make its tables, or its file, if it is new
    :param on_stale: called with each trial whose worker has died
    :raises InvalidValue: there is no such file, nobody answers, or it holds something else
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # our lines say the same
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    is_sqlite = sa.make_url(url).get_backend_name() == "sqlite"
    if is_sqlite and not new and not Path(shown(url)).is_file():
        raise InvalidValue(f"no such file: {shown(url)}")
    engine: dict[str, Any] = {"connect_args": {"timeout": _LOCK_SECONDS}} if is_sqlite else {"pool_pre_ping": True}
    with storage_errors(url):
        for attempt in range(_ATTEMPTS):
            try:
                storage = RDBStorage(
                    url,
                    engine_kwargs=engine,
                    heartbeat_interval=heartbeat,
                    grace_period=MISSED_HEARTBEATS * heartbeat,
                    heartbeat_stale_trial_callback=on_stale,
                )
                break
            except sa.exc.DBAPIError as error:
                # Two hosts that begin at once both make the tables, and one of them finds that they exist after all.
                if attempt == _ATTEMPTS - 1 or not any(word in str(error.orig) for word in ("exists", "duplicate")):
                    raise
                time.sleep(1.0 + random.random())
    if is_sqlite:
        _lock_first(storage.engine)
    return storage


def _lock_first(engine: sa.Engine) -> None:
    """
    Let every transaction on SQLite begin by taking the lock (SQLAlchemy's recipe). By default one only begins at its
    first write, and two workers that both read "waiting" would both run the same retried trial.
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
    Say in one sentence what the database says in many lines.

    :param url: of the storage
    :raises InvalidValue: instead of the errors of Optuna and SQLAlchemy
    """
    try:
        yield
    except (sa.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause: Any = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        lines = str(getattr(cause, "orig", None) or cause or error).strip().splitlines()
        raise InvalidValue(f"storage {shown(url)} cannot be used ({lines[0].rstrip('.')})") from error
    except RuntimeError as error:
        if "optuna" not in str(error) or isinstance(error, optuna.exceptions.OptunaError):
            raise
        # Tables of another version of Optuna.
        raise InvalidValue(f"storage {shown(url)} cannot be used ({' '.join(str(error).split())})") from error
