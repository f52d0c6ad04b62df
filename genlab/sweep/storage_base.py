"""What the storage of a sweep's queue offers, whether it is a database or a journal."""

import abc
import contextlib
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from genlab.runs.errors import UsageError

MAX_HEARTBEAT_SECONDS = 10
"""The maximum time between two heartbeats."""
CONNECTION_ERRORS = (StorageInternalError, SQLAlchemyError, OSError)
T = TypeVar("T")


class Storage(abc.ABC):
    """Optuna's storage, with a lock that all processes of a sweep share, and with signs of life of these processes.

    Args:
        url: The address.
        sweep: Name of the sweep.
        grace: Seconds without a sign of life after which a process counts as dead.

    Attributes:
        optuna: Optuna's storage. It is changed under the lock only.
        mark: Names the sign of life of this process; empty where each run has its own.
        file: The file that contains the queue, if it is one.
        outage_seconds: How long the storage may not answer before a sweep gives up.
    """

    optuna: BaseStorage
    mark: str = ""
    file: Path | None = None
    outage_seconds: float = 600.0

    def __init__(self, url: URL, sweep: str, grace: int) -> None:
        self.url, self._sweep, self._grace = url, sweep, grace
        self.name = hide_password(url.set(drivername=url.get_backend_name()))
        self._thread_lock = threading.RLock()
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    @property
    def optuna_address(self) -> str:
        """The address as Optuna's commands take it, without the password."""
        return hide_password(self.url)

    @property
    def heartbeat_seconds(self) -> int:
        """Seconds between two heartbeats."""
        return min(MAX_HEARTBEAT_SECONDS, max(1, self._grace // 6))

    @abc.abstractmethod
    def heartbeat(self, trials: Collection[int]) -> None:
        """Records a sign of life of this process, which executes these trials."""

    def taken_over(self, trials: Collection[int]) -> set[int]:
        """Returns which of these trials, which this process executes, are not running any more."""
        return {trial for trial in trials if self.optuna.get_trial(trial).state != TrialState.RUNNING}

    @abc.abstractmethod
    def silent(self, study: int, running: Sequence[FrozenTrial]) -> set[int]:
        """Returns the trials whose process gave no sign of life for too long.

        Args:
            study: The study.
            running: Its running trials, without those that this process executes.
        """

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Locks out all other threads and processes of the sweep."""
        with self._thread_lock, self._process_lock():
            yield

    @abc.abstractmethod
    def _process_lock(self) -> contextlib.AbstractContextManager[None]:
        """Locks out all other processes of the sweep."""

    def single_change(self) -> contextlib.AbstractContextManager[None]:
        """Returns the lock that a change needs which is one write, and depends on nothing that was read before."""
        return contextlib.nullcontext()

    def contains(self, sweep: str) -> bool:
        """Returns whether a sweep of this name has been started in this storage."""
        return any(study.study_name == sweep for study in self.optuna.get_all_studies())

    @abc.abstractmethod
    def close(self) -> None:
        """Ends the connections and signs of life of this process."""

    def retry(self, action: Callable[[], T], notify: Callable[[str], None], stop: threading.Event) -> T:
        """Repeats an action until the storage answers.

        Args:
            action: What to do.
            notify: Called with a message for each failed attempt.
            stop: When it is set, no further attempt is made.

        Raises:
            UsageError: The storage did not answer for too long, or `stop` was set.
        """
        deadline, pause = time.monotonic() + self.outage_seconds, 0.5
        while True:
            try:
                return action()
            except CONNECTION_ERRORS as error:
                reason = f"the sweep's storage does not answer ({reason_of(error)})"
            if time.monotonic() > deadline or stop.is_set():
                raise UsageError(f"{reason}; give the same command again when it does, to continue the sweep")
            notify(f"{reason}; trying again")
            stop.wait(pause)
            pause = min(2 * pause, 15.0)


def unusable(name: str, error: BaseException, advice: str) -> UsageError:
    """Returns the error of a storage that cannot be opened."""
    return UsageError(f"cannot use the storage {name} ({reason_of(error)}); {advice}")


def hide_password(address: str | URL) -> str:
    """Returns an address without its password, also a malformed one."""
    text = address if isinstance(address, str) else address.render_as_string(hide_password=False)
    text = re.sub(r"(?<=password=)[^&]*", "***", text)
    return re.sub(r":(?!//).*@", ":***@", text)


def reason_of(error: BaseException) -> str:
    """Returns the first line of the message of an error, or of the error that caused it."""
    cause = error.__cause__ or error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return next(iter(str(cause).strip().splitlines()), type(cause).__name__)
