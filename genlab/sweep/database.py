"""The queue in Optuna's tables: an SQLite file for one machine, or PostgreSQL for several."""

import contextlib
import logging
import sqlite3
import tempfile
import warnings
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from genlab.sweep.storage_base import Storage, unusable
from genlab.sweep.tables import Tables

SQLITE_TIMEOUT_SECONDS = 60
"""How long to wait while another process writes to the file."""
OPEN_SECONDS = 10
"""How long to wait for a database or for another process until the storage is open."""
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
RECORD_HEARTBEAT = sqlalchemy.text(
    "INSERT INTO trial_heartbeats (trial_id, heartbeat) VALUES (:trial, CURRENT_TIMESTAMP) "
    "ON CONFLICT (trial_id) DO UPDATE SET heartbeat = CURRENT_TIMESTAMP"
)
RUNNING_TRIALS = sqlalchemy.text("SELECT trial_id FROM trials WHERE state = 'RUNNING'")


class Database(Storage):
    """Optuna's tables. Each running trial has a heartbeat, by the clock of the database.

    Args:
        url: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE.
        sweep: Name of the sweep, for the lock.
        grace: Seconds without a heartbeat after which the process of a run counts as dead.

    Raises:
        UsageError: The database cannot be reached.
    """

    optuna: Tables

    def __init__(self, url: URL, sweep: str, grace: int) -> None:
        super().__init__(url, sweep, grace)
        defaults, advice = POSTGRES_OPTIONS, "check the address, and that its server runs"
        if url.get_backend_name() == "sqlite":
            self.file, self.outage_seconds = Path(str(url.database)).resolve(), 60.0
            self.url = url.set(database=str(self.file))
            defaults = {"timeout": SQLITE_TIMEOUT_SECONDS}
            advice = "give another file by --storage sqlite:///FILE"
        given = {name: value for name, value in defaults.items() if name not in url.query}
        self._options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": given}
        logging.getLogger("alembic").setLevel(logging.WARNING)
        try:
            if self.file:
                _try_file(self.file)
            self._engine = sqlalchemy.create_engine(self.url, **self._options)
            with self._process_lock(TABLES_LOCK, OPEN_SECONDS):
                self.optuna = self._open()
        except (SQLAlchemyError, StorageInternalError, ImportError, OSError, sqlite3.Error) as error:
            raise unusable(self.name, error, advice) from None

    def _open(self) -> Tables:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return Tables(
                self.url.render_as_string(hide_password=False),
                engine_kwargs=self._options,
                heartbeat_interval=self.heartbeat_seconds,
                grace_period=self._grace,
            )

    def heartbeat(self, trials: Collection[int]) -> None:
        if not trials:
            return
        with self._engine.begin() as connection:
            connection.execute(RECORD_HEARTBEAT, [{"trial": trial} for trial in trials])

    def taken_over(self, trials: Collection[int]) -> set[int]:
        with self._engine.connect() as connection:
            running = set(connection.scalars(RUNNING_TRIALS)).intersection(trials)
        self.optuna.keep_own(running)
        return set(trials) - running

    def silent(self, study: int, running: Sequence[FrozenTrial]) -> set[int]:
        return set(self.optuna._get_stale_trial_ids(study))

    @contextlib.contextmanager
    def _process_lock(self, name: str | None = None, seconds: int = -1) -> Iterator[None]:
        """Locks out all other processes that use the same name, by default the name of the sweep.

        Args:
            name: The name.
            seconds: How long to wait for the others; -1 without a limit.
        """
        if self.file:
            kind = "tables.lock" if name == TABLES_LOCK else "lock"  # a busy sweep does not keep a new process waiting
            with FileLock(f"{self.file}.{kind}", timeout=seconds):
                yield
            return
        key = {"key": zlib.crc32((name or self._sweep).encode())}
        with self._engine.connect() as connection:
            if seconds >= 0:
                connection.execute(sqlalchemy.text(f"SET LOCAL lock_timeout = '{seconds}s'"))
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), key)
            connection.commit()  # the lock belongs to the connection, not to the transaction
            try:
                yield
            finally:
                connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock(:key)"), key)

    def close(self) -> None:
        self.optuna.remove_session()
        self.optuna.engine.dispose()
        self._engine.dispose()


def _try_file(path: Path) -> None:
    """Raises an error if the file is no database, is locked by another program, or cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass  # SQLite, and the lock of this storage, write further files beside it
    with contextlib.closing(sqlite3.connect(path, timeout=OPEN_SECONDS)) as connection:
        connection.execute("BEGIN IMMEDIATE")
