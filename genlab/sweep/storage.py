"""The storage of a sweep's queue: Optuna's tables in an SQLite file, or in PostgreSQL for several machines."""

import contextlib
import logging
import re
import sqlite3
import tempfile
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from genlab.runs.errors import UsageError

SQLITE_TIMEOUT_SECONDS = 60
"""How long to wait while another process writes to the file."""
OPEN_SECONDS = 10
"""How long to wait for a database or for another process until the storage is open."""
OUTAGE_SECONDS = {"sqlite": 60.0, "postgresql": 600.0}
"""How long a database may be unreachable before a sweep gives up."""
MAX_HEARTBEAT_SECONDS = 10
"""The maximum time between two heartbeats."""
TABLES_LOCK = "genlab's tables"
"""Name of the lock under which the tables are created."""
POSTGRES_OPTIONS = {
    "connect_timeout": OPEN_SECONDS,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "options": "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
}
"""With these options, client and server notice within about a minute that the other machine is gone."""

ADVICE = {
    "sqlite": "give another file by --storage sqlite:///FILE",
    "postgresql": "check the address, and that its server runs",
}
"""What to do where a storage cannot be used."""
CONNECTION_ERRORS = (StorageInternalError, SQLAlchemyError)
T = TypeVar("T")


class Storage:
    """Optuna's storage, with a lock that all processes of a sweep share.

    Args:
        url: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE.
        sweep: Name of the sweep, for the lock.
        grace: Seconds without a heartbeat after which the process of a run counts as dead.

    Raises:
        UsageError: The address is malformed or cannot be reached.
    """

    def __init__(self, url: str | URL, sweep: str, grace: int) -> None:
        self.url = _address(url)
        self.kind = self.url.get_backend_name()
        self.name = hide_password(self.url.set(drivername=self.kind))
        defaults = POSTGRES_OPTIONS
        if self.kind == "sqlite":
            self.url = self.url.set(database=str(Path(str(self.url.database)).resolve()))
            defaults = {"timeout": SQLITE_TIMEOUT_SECONDS}
        given = {name: value for name, value in defaults.items() if name not in self.url.query}
        self._options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": given}
        self._sweep = sweep
        self._thread_lock = threading.RLock()
        self._grace = grace
        logging.getLogger("alembic").setLevel(logging.WARNING)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            if self.kind == "sqlite":
                _try_file(Path(str(self.url.database)))
            self._engine = sqlalchemy.create_engine(self.url, **self._options)
            with self.locked(TABLES_LOCK, OPEN_SECONDS):
                self.optuna = self._open()
        except (SQLAlchemyError, StorageInternalError, ImportError, OSError, sqlite3.Error) as error:
            raise UsageError(f"cannot use the storage {self.name} ({_reason(error)}); {ADVICE[self.kind]}") from None

    def _open(self) -> RDBStorage:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return RDBStorage(
                self.url.render_as_string(hide_password=False),
                engine_kwargs=self._options,
                heartbeat_interval=min(MAX_HEARTBEAT_SECONDS, max(1, self._grace // 6)),
                grace_period=self._grace,
            )

    @contextlib.contextmanager
    def locked(self, name: str | None = None, seconds: int = -1) -> Iterator[None]:
        """Locks out all other threads and processes that use the same name, by default the name of the sweep.

        Args:
            name: The name.
            seconds: How long to wait for the others; -1 without a limit.
        """
        with self._thread_lock, self._process_lock(name or self._sweep, seconds):
            yield

    @contextlib.contextmanager
    def _process_lock(self, name: str, seconds: int) -> Iterator[None]:
        if self.kind == "sqlite":
            kind = "tables.lock" if name == TABLES_LOCK else "lock"  # a busy sweep does not keep a new process waiting
            with FileLock(f"{self.url.database}.{kind}", timeout=seconds):
                yield
            return
        key = {"key": zlib.crc32(name.encode())}
        with self._engine.connect() as connection:
            if seconds >= 0:
                connection.execute(sqlalchemy.text(f"SET LOCAL lock_timeout = '{seconds}s'"))
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), key)
            connection.commit()  # the lock belongs to the connection, not to the transaction
            try:
                yield
            finally:
                connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), key)

    def contains(self, sweep: str) -> bool:
        """Returns whether a sweep of this name has been started in this storage."""
        return any(study.study_name == sweep for study in self.optuna.get_all_studies())

    def close(self) -> None:
        self.optuna.remove_session()
        self.optuna.engine.dispose()
        self._engine.dispose()

    def retry(self, action: Callable[[], T], notify: Callable[[str], None], stop: threading.Event) -> T:
        """Repeats an action until the database answers.

        Args:
            action: What to do.
            notify: Called with a message for each failed attempt.
            stop: When it is set, no further attempt is made.

        Raises:
            UsageError: The database did not answer for too long, or `stop` was set.
        """
        deadline, pause = time.monotonic() + OUTAGE_SECONDS[self.kind], 0.5
        while True:
            try:
                return action()
            except CONNECTION_ERRORS as error:
                reason = f"the sweep's storage does not answer ({_reason(error)})"
            if time.monotonic() > deadline or stop.is_set():
                raise UsageError(f"{reason}; give the same command again when it does, to continue the sweep")
            notify(f"{reason}; trying again")
            stop.wait(pause)
            pause = min(2 * pause, 15.0)


def hide_password(address: str | URL) -> str:
    """Returns an address without its password, also a malformed one."""
    text = address if isinstance(address, str) else address.render_as_string(hide_password=False)
    text = re.sub(r"(?<=password=)[^&]*", "***", text)
    return re.sub(r":(?!//).*@", ":***@", text)


def _reason(error: BaseException) -> str:
    """Returns the first line of the message of an error, or of the error that caused it."""
    cause = error.__cause__ or error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__)


def _try_file(path: Path) -> None:
    """Raises an error if the file is no database, is locked by another program, or cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass  # SQLite, and the lock of this storage, write further files beside it
    with contextlib.closing(sqlite3.connect(path, timeout=OPEN_SECONDS)) as connection:
        connection.execute("BEGIN IMMEDIATE")


def _address(url: str | URL) -> URL:
    """Parses an address.

    Raises:
        UsageError: It is malformed, or of another kind of database.
    """
    given = f"--storage {hide_password(url)}"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        what = "is not an address" if isinstance(error, ArgumentError) else "has a port that is not a number"
        raise UsageError(f"{given} {what}; write sqlite:///FILE or postgresql://HOST:PORT/NAME") from None
    if "@" in (parsed.host or ""):
        raise UsageError(f"{given} has several @; write an @ of the password as %40")
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        if parsed.query:
            raise UsageError(f"{given} has options after the ?, which an SQLite file does not take")
        return parsed
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise UsageError(f"{given} is neither sqlite:///FILE nor postgresql://HOST/NAME")
