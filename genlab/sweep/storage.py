"""Where a sweep's queue is kept: Optuna's storage in one SQLite file, or in PostgreSQL for several machines."""

import contextlib
import logging
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

SQLITE_SECONDS = 60
"""How long to wait while another process writes to the file."""
OUTAGE_SECONDS = {"sqlite": 60.0, "postgresql": 600.0}
"""How long a database may be away before a sweep gives up."""
LONGEST_BEAT = 10
"""Seconds between heartbeats, at most."""
TABLES = "genlab's tables"
"""Name of the lock under which they are made."""
POSTGRES = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "options": "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
}
"""A machine that has gone is noticed within a minute or so, on both sides."""

AWAY = (StorageInternalError, SQLAlchemyError)
T = TypeVar("T")


class Storage:
    """Optuna's storage, and a lock around it that all processes of a sweep share.

    Args:
        url: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE.
        sweep: name of the sweep, for the lock.
        grace: seconds without a heartbeat after which a run's owner counts as dead.

    Raises:
        UsageError: the address cannot be read or reached.
    """

    def __init__(self, url: str | URL, sweep: str, grace: int) -> None:
        self.url = _address(url)
        self.kind = self.url.get_backend_name()
        options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": POSTGRES}
        if self.kind == "sqlite":
            self.url = self.url.set(database=str(Path(str(self.url.database)).resolve()))
            options["connect_args"] = {"timeout": SQLITE_SECONDS}
        self._options = options
        self._sweep = sweep
        self._in_process = threading.RLock()
        self._grace = grace
        logging.getLogger("alembic").setLevel(logging.WARNING)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            if self.kind == "sqlite":
                Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)
            self._engine = sqlalchemy.create_engine(self.url, **options)
            with self.locked(TABLES):
                self.optuna = self._open()
        except (SQLAlchemyError, StorageInternalError, ImportError, OSError) as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise UsageError(f"cannot use the storage {self.url.render_as_string()} ({reason})") from None

    def _open(self) -> RDBStorage:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return RDBStorage(
                self.url.render_as_string(hide_password=False),
                engine_kwargs=self._options,
                heartbeat_interval=min(LONGEST_BEAT, max(1, self._grace // 6)),
                grace_period=self._grace,
            )

    @contextlib.contextmanager
    def locked(self, name: str | None = None) -> Iterator[None]:
        """Keeps all other processes and threads of the sweep out, or of all that ask for the same name."""
        with self._in_process, self._between_processes(name or self._sweep):
            yield

    @contextlib.contextmanager
    def _between_processes(self, name: str) -> Iterator[None]:
        if self.kind == "sqlite":
            with FileLock(f"{self.url.database}.lock"):
                yield
            return
        key = {"key": zlib.crc32(name.encode())}
        with self._engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), key)
            connection.commit()  # the lock is the connection's, not the transaction's
            try:
                yield
            finally:
                connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), key)

    def holds(self, sweep: str) -> bool:
        """Whether a sweep of this name has been begun here."""
        return any(study.study_name == sweep for study in self.optuna.get_all_studies())

    def close(self) -> None:
        self.optuna.remove_session()
        self.optuna.engine.dispose()
        self._engine.dispose()

    def insist(self, action: Callable[[], T], say: Callable[[str], None], stop: threading.Event) -> T:
        """Does it again, and again, while the database is away.

        Raises:
            UsageError: it was away for too long, or `stop` was set.
        """
        deadline, pause = time.monotonic() + OUTAGE_SECONDS[self.kind], 0.5
        while True:
            try:
                return action()
            except AWAY as error:
                reason = (
                    f"the sweep's storage does not answer ({str(error.__cause__ or error).strip().splitlines()[0]})"
                )
            if time.monotonic() > deadline or stop.is_set():
                raise UsageError(f"{reason}; once it does, the same command goes on")
            say(f"{reason}; trying again")
            stop.wait(pause)
            pause = min(2 * pause, 15.0)


def _address(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UsageError(f"--storage {url!r} is no address; write sqlite:///FILE or postgresql://HOST/NAME") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise UsageError(f"--storage {parsed.render_as_string()} is neither sqlite:///FILE nor postgresql://HOST/NAME")
