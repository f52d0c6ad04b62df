"""The queue in Optuna's journal: a file to which each change is appended, on a file system that machines share.

Nothing here needs the locks of the file system, which often do not work between machines, or clocks that agree.

- A line is valid only if it begins where its writer had stopped reading. A process that was suspended, and has lost the
  lock without knowing it, therefore changes nothing: all readers pass over its line. The lock only saves work.
- The lock is a symbolic link that names its owner. Creating one is atomic on each file system.
- The sign of life of a process is the modification time of a file, which it touches. Others watch whether it changes.
"""

import contextlib
import json
import os
import tempfile
import time
import uuid
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from optuna.storages import JournalStorage
from optuna.storages.journal._base import BaseJournalBackend
from optuna.trial import FrozenTrial
from sqlalchemy.engine import URL

from genlab.sweep.owner import is_gone, mark_of, this_process
from genlab.sweep.storage_base import Storage, unusable

MAX_PAUSE_SECONDS = 0.2
"""The maximum time between two attempts to get the lock."""
FIRST_BYTES = b'{"op_code":'
"""How Optuna begins each line."""
Key = TypeVar("Key", bound=Hashable)


class Journal(Storage):
    """Optuna's journal in a file.

    Args:
        url: journal:///FILE.
        sweep: Name of the sweep. A journal may contain several.
        grace: Seconds without a sign of life after which a process counts as dead.

    Raises:
        UsageError: The file is no journal, or its folder cannot be used.
    """

    def __init__(self, url: URL, sweep: str, grace: int) -> None:
        super().__init__(url, sweep, grace)
        self.file = path = Path(str(url.database)).resolve()
        self.mark = uuid.uuid4().hex
        self._signs = SignsOfLife(path.with_name(f"{path.name}.alive"), grace)
        self._lock = LinkLock(path.with_name(f"{path.name}.lock"), self.mark, SignsOfLife(self._signs.folder, grace))
        self._lines = JournalFile(path)
        try:
            _try_folder(path.parent)
            self._lines.check()
            self.optuna = JournalStorage(self._lines)
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            advice = "give another file by --storage journal:///FILE, in a folder that exists on this machine"
            raise unusable(self.name, error, advice) from None

    @property
    def optuna_address(self) -> str:
        return str(self.file)

    def heartbeat(self, trials: Collection[int]) -> None:
        self._signs.give(self.mark)

    def silent(self, study: int, running: Sequence[FrozenTrial]) -> set[int]:
        marks = {trial._trial_id: mark_of(trial.user_attrs.get("owner", "")) for trial in running}
        signs = {mark: self._signs.read(mark) for mark in {*marks.values()} - {self.mark}}
        return self._signs.unchanged({trial: signs.get(mark) for trial, mark in marks.items()})

    @contextlib.contextmanager
    def _process_lock(self) -> Iterator[None]:
        self._signs.give(self.mark)
        with self._lock, self._lines.writing():
            self.optuna.get_all_studies()  # reads to the end
            yield

    def single_change(self) -> contextlib.AbstractContextManager[None]:
        return self.locked()

    def close(self) -> None:
        self._signs.end(self.mark)


class JournalFile(BaseJournalBackend):
    """The lines of a journal. Those that are not whole or not valid are passed over.

    Args:
        path: The file; it is created by the first line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._writing = self._written = False

    def check(self) -> None:
        """Raises an error if the file is there, and is no journal."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            first = file.read(len(FIRST_BYTES))
            if not FIRST_BYTES.startswith(first.partition(b"\n")[0]):
                raise ValueError("the file is not a journal of Optuna")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Allows to append lines, under the lock."""
        self._end_torn_line()
        self._writing, self._written = True, False
        try:
            yield
        finally:
            self._writing = False
            if self._written:
                with self._path.open("rb+") as file:
                    os.fsync(file.fileno())

    def _end_torn_line(self) -> None:
        """Ends the last line where a process was killed, or the disk became full, while it was written."""
        if not self._path.exists() and not self._offset:
            return
        with self._path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < self._offset:
                raise OSError(f"{self._path} is shorter than before, as another program has changed it")
            file.seek(max(0, size - 1))
            last = file.read(1)
        if last not in (b"", b"\n"):
            with self._path.open("ab") as file:
                file.write(b"\n")

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        assert self._writing, "a journal is changed under its lock only"
        with self._path.open("ab") as file:
            if file.tell() != self._offset:
                raise _conflict()
            self._written, at = True, self._offset
            for log in logs:
                line = json.dumps({**log, "at": at}, separators=(",", ":")).encode() + b"\n"
                file.write(line)
                at += len(line)
            file.flush()
            if file.tell() != at:
                raise _conflict()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yields the lines that were not yet read. Optuna asks for each line once."""
        if not self._path.exists() and not self._offset:
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                log = _parse(line) if line.endswith(b"\n") else None
                if log is None and not (self._writing and line.endswith(b"\n")):
                    return  # it may not yet be whole: the lock decides
                at, self._offset = self._offset, self._offset + len(line)
                if log is not None and log.get("at", at) == at:
                    yield log


def _parse(line: bytes) -> dict[str, Any] | None:
    """Returns the content of a line; None if it is broken."""
    try:
        log = json.loads(line)
    except ValueError:
        return None
    return log if isinstance(log, dict) and {"op_code", "worker_id"} <= log.keys() else None


class LinkLock:
    """A lock of processes and machines: a symbolic link whose target names the owner, and that is removed at the end.

    A lock whose owner does not exist any more, or gives no sign of life for too long, is broken by those who wait.

    Args:
        path: The link.
        mark: The mark of this process.
        signs: The signs of life, to watch the owner.
    """

    def __init__(self, path: Path, mark: str, signs: "SignsOfLife") -> None:
        self._path, self._mark, self._signs = path, mark, signs
        self._own = ""

    def __enter__(self) -> None:
        self._own, pause = f"{uuid.uuid4().hex}@{this_process(self._mark)}", 0.001
        while True:
            with contextlib.suppress(FileExistsError):
                os.symlink(self._own, self._path)
                return
            owner = self._owner()
            if owner == self._own:  # it was created, but the answer of the file system was lost
                return
            if owner and self._is_dead(owner):
                self._remove(owner)
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    def __exit__(self, *_: object) -> None:
        self._remove(self._own)

    def _owner(self) -> str:
        try:
            return os.readlink(self._path)
        except FileNotFoundError:
            return ""

    def _remove(self, owner: str) -> None:
        """Removes the lock if it has this owner."""
        if self._owner() == owner:
            self._path.unlink(missing_ok=True)

    def _is_dead(self, owner: str) -> bool:
        process = owner.partition("@")[2]
        return is_gone(process) or bool(self._signs.unchanged({owner: self._signs.read(mark_of(process))}))


class SignsOfLife:
    """Files that living processes touch. A file that does not change for too long is that of a dead process.

    Each process measures by its own clock how long a file does not change, so that clocks need not agree.

    Args:
        folder: The folder of the files.
        grace: How many seconds are too long.
    """

    def __init__(self, folder: Path, grace: float) -> None:
        self.folder, self._grace = folder, grace
        self._seen: dict[Hashable, tuple[int | None, float]] = {}

    def give(self, mark: str) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / mark).touch()

    def end(self, mark: str) -> None:
        (self.folder / mark).unlink(missing_ok=True)

    def read(self, mark: str) -> int | None:
        """Returns the time of the last sign by the clock of the file system; None if there is none."""
        if not mark.isalnum():
            return None
        try:
            with (self.folder / mark).open("rb") as file:  # a network file system asks its server when a file is opened
                return os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return None

    def unchanged(self, signs: Mapping[Key, int | None]) -> set[Key]:
        """Returns for which keys the sign has been the same at each call for too long."""
        now = time.monotonic()
        last = {key: self._seen.get(key, (sign, now)) for key, sign in signs.items()}
        self._seen = {key: last[key] if last[key][0] == sign else (sign, now) for key, sign in signs.items()}
        return {key for key in signs if now - self._seen[key][1] > self._grace}


def _conflict() -> OSError:
    return OSError("another process has changed the journal meanwhile")


def _try_folder(folder: Path) -> None:
    """Raises an error if no file or no symbolic link can be created in the folder."""
    with tempfile.TemporaryDirectory(dir=folder) as probe:
        os.symlink("target", Path(probe, "link"))
