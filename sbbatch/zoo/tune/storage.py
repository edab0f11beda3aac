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
_MADE_ALREADY = ("exists", "duplicate", "UNIQUE")
_EXPECTED = "give sqlite:///FILE.db for one host, or postgresql+psycopg://USER@HOST/DATABASE for several"


def shown(url: str) -> str:
    """The URL of a storage without its password; of SQLite only the file."""
    parsed = sa.make_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    return str(parsed.database) if is_sqlite else parsed.render_as_string(hide_password=True)


def open_storage(
    url: str, heartbeat: int, new: bool, on_stale: Callable[[optuna.Study, FrozenTrial], None] | None = None
) -> RDBStorage:
    """
    Connect to a database.

    :param heartbeat: seconds between signs of life of a trial
    :param new: make its tables, or its file, if it is new
    :param on_stale: called with each trial whose worker has died
    :raises InvalidValue: it cannot hold a study of several workers, there is no such file, or nobody answers
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # our lines say the same
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    try:
        is_sqlite = sa.make_url(url).get_backend_name() == "sqlite"
        sa.make_url(url).get_dialect().import_dbapi()
    except (sa.exc.ArgumentError, ValueError):  # what it says would show a password
        raise InvalidValue(f"--storage: this is not the URL of a database; {_EXPECTED}") from None
    except ImportError as error:
        raise InvalidValue(f"--storage: {shown(url)} needs {error.name}; pip install 'sbbatch[postgres]'") from None
    if is_sqlite and shown(url) in ("None", "", ":memory:"):
        raise InvalidValue(f"--storage: workers cannot share a database in memory; {_EXPECTED}")
    if is_sqlite and not new and not Path(shown(url)).is_file():
        raise InvalidValue(f"no such file: {shown(url)}")
    engine: dict[str, Any] = {"connect_args": {"timeout": _LOCK_SECONDS}} if is_sqlite else {"pool_pre_ping": True}
    beats: dict[str, Any] = {"heartbeat_interval": heartbeat, "grace_period": MISSED_HEARTBEATS * heartbeat}
    with storage_errors(url):
        for attempt in range(_ATTEMPTS):
            try:
                storage = RDBStorage(url, engine_kwargs=engine, heartbeat_stale_trial_callback=on_stale, **beats)
                break
            except sa.exc.DBAPIError as error:
                # Two hosts that begin at once both make the tables, and one of them finds that they exist after all.
                if attempt == _ATTEMPTS - 1 or not any(word in str(error.orig) for word in _MADE_ALREADY):
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
    """Say in one sentence, an ``InvalidValue``, what Optuna and the database say in many lines."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
        cause: Any = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        if isinstance(error, RuntimeError) and "optuna" not in str(error):
            raise
        line = str(getattr(cause, "orig", None) or cause or error).strip().splitlines()[0]
        raise InvalidValue(f"storage {shown(url)} cannot be used ({line.rstrip('.')})") from error
