"""The side of a Ray node: an actor that holds a warm worker process, and the files that its runs need."""

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

import ray
from filelock import FileLock

from genlab.runs.errors import UsageError, error_message
from genlab.runs.folder import is_alive
from genlab.sweep.parcels import pack, unpack
from genlab.sweep.worker import Json, Worker, WorkerDiedError

EVENT_SECONDS = 10.0
"""How long a request for events waits for one."""
LOG_SECONDS = 0.5
"""How often an actor looks whether the log of a run has grown."""
LOG_BYTES = 2**20
"""How much of a log one answer has at most."""
PACKAGE = Path(__file__).parents[1]
STORE = ".genlab"
"""The folder of a node, beside Ray's copies of projects, for the files that sweeps send and the folders of actors."""
Pieces = list["ray.ObjectRef[bytes]"]


@dataclass(frozen=True)
class Home:
    """The place where the sweep was started, as a node needs to know it.

    Args:
        folder: The current folder.
        program: The program, as a path from that folder or from the folder of the package genlab.
        root: Folder of all runs, as the program gets it.
        folder_mark: A file by which a node sees that it shares the current folder.
        root_mark: A file by which a node sees that it shares the folder of all runs.
        text: The contents of both files.
    """

    folder: str
    program: str
    root: str
    folder_mark: str
    root_mark: str
    text: str

    def is_seen(self, mark: str) -> bool:
        """Whether this machine sees a mark."""
        try:
            return Path(mark).read_text(encoding="utf-8") == self.text
        except OSError:
            return False


class RayActor:
    """Executes the runs of a sweep on a node. Its methods are called by `RayWorker`, several at a time.

    On a node that shares the file system of the sweep, runs work in the same folders as on the machine where it was
    started. On any other node, the actor has a folder of its own: Ray's copy of the project, the files that were sent,
    and the runs until they are done. What a run leaves is then a parcel.

    Args:
        home: Where the sweep was started.
        environment: Environment variables of the worker process.
    """

    def __init__(self, home: Home, environment: Mapping[str, str]) -> None:
        self._home = home
        self._project = Path.cwd()
        self._store = self._project.parent / STORE
        self._same_root = home.is_seen(home.root_mark)
        self._private = not (self._same_root and home.is_seen(home.folder_mark))
        self._root = self._find_root()
        self._folder = self._make_folder() if self._private else Path(home.folder)
        os.chdir(self._folder)
        self._sent: set[Path] = set()
        program = Path(home.program)
        self._worker = Worker(program if program.is_file() else PACKAGE.parent / program, environment)
        self._changed = threading.Condition()
        self._log = Path(os.devnull)

    def place(self) -> Json:
        """Returns where this actor is, and whether it needs files and brings runs home."""
        node = ray.get_runtime_context().get_node_id()
        return {"node": node, "private": self._private, "same_root": self._same_root}

    def missing(self, paths: Sequence[str]) -> list[str]:
        """Returns those of the files and folders that are not there."""
        return [path for path in paths if not Path(path).exists()]

    def receive(self, path: str, key: str, parcel: Pieces) -> None:
        """Puts a file or folder into the folder of this actor. A node gets it once, and its actors link to it.

        Args:
            path: The path, relative to the folder.
            key: Names the parcel.
            parcel: Its pieces.
        """
        store = self._store / key
        with FileLock(f"{store}.lock"):
            if not store.exists():
                part = store.with_name(f"{key}.part")
                shutil.rmtree(part, ignore_errors=True)
                unpack(map(ray.get, parcel), part)
                part.rename(store)
        _link(store / path, self._folder / path)
        self._sent |= self._folders()

    def receive_run(self, parcel: Pieces) -> None:
        """Puts a run that this actor will continue into its folder of runs."""
        unpack(map(ray.get, parcel), self._root)

    def question(self, request: Json) -> Json:
        """Asks the worker process."""
        try:
            return {"answer": self._worker._question(request)}
        except WorkerDiedError as error:
            return {"died": str(error)}
        except UsageError as error:
            return {"error": str(error)}

    def start(self, args: Sequence[str], log: str, environment: Mapping[str, str], files: Mapping[str, bytes]) -> None:
        """Begins a run.

        Args:
            args: Arguments of the program.
            log: File to which the output of the program is appended.
            environment: Environment variables for this run.
            files: Contents of a file for each further variable, whose value is the path of the file.
        """
        self._log = self._here(log)
        self._events: list[Json] = []
        self._ended = False
        self._answers: SimpleQueue[bool] = SimpleQueue()
        self._answered = 0
        if not self._same_root:
            self._log.unlink(missing_ok=True)
        args = [self._in_argument(arg) for arg in args]
        threading.Thread(target=self._run, args=(args, dict(environment), files), daemon=True).start()

    def _run(self, args: list[str], environment: dict[str, str], files: Mapping[str, bytes]) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="genlab-") as folder:
                for name, contents in files.items():
                    environment[name] = str(Path(folder) / name)
                    Path(environment[name]).write_bytes(contents)
                outcome = self._worker.run(args, self._log, environment, self._on_progress)
            if outcome.folder is not None:
                outcome.folder = os.path.relpath(outcome.folder, self._root)
            self._add({"outcome": asdict(outcome), "runs": {} if self._same_root else self._pack_runs()}, ended=True)
        except Exception as error:  # the program cannot be loaded, or the disk is full
            self._add({"error": f"{socket.gethostname()}: {error_message(error)}"}, ended=True)

    def _here(self, path: str) -> Path:
        """Returns a path in the folder of all runs as it is on this machine."""
        return self._root / Path(path).relative_to(self._home.root)

    def _in_argument(self, arg: str) -> str:
        if self._root == Path(self._home.root):
            return arg
        name, equals, value = arg.partition("=")
        inside = equals and Path(value).is_relative_to(self._home.root)
        return f"{name}={self._here(value)}" if inside else arg

    def _on_progress(self, progress: Json) -> bool:
        self._add({"progress": progress})
        return self._answers.get()

    def _add(self, event: Json, ended: bool = False) -> None:
        with self._changed:
            self._events.append(event)
            self._ended = ended
            self._changed.notify_all()

    def _folders(self) -> set[Path]:
        """Returns the folders of runs that are there."""
        return {folder for folder in self._root.glob("*/*") if folder.is_dir() and folder.name != "logs"}

    def _pack_runs(self) -> dict[str, Pieces]:
        """Returns the parcels of the runs that this actor has made, and removes their folders."""
        folders = self._folders() - self._sent
        runs = [folder.relative_to(self._root) for folder in folders]
        parcels = {str(run): pack(self._root, run, ray.put) for run in runs}
        for folder in folders:
            shutil.rmtree(folder)
        return parcels

    def events(self, after: int, log_after: int, stop: bool | None) -> tuple[list[Json], bytes]:
        """Waits for events of the run, or for output in its log if the log is not on a file system that all share.

        Args:
            after: Number of events that the caller has.
            log_after: Number of bytes of the log that the caller has.
            stop: Whether a run that waits after an epoch, the last of these events, shall end early; None if none does.
        """
        if stop is not None and self._answered < after:  # a call that fails on its way is repeated
            self._answered = after
            self._answers.put(stop)
        deadline = time.monotonic() + EVENT_SECONDS
        while True:
            with self._changed:
                if len(self._events) <= after and not self._ended:
                    self._changed.wait(EVENT_SECONDS if self._same_root else LOG_SECONDS)
                events, ended = self._events[after:], self._ended
            text = b"" if self._same_root else _read(self._log, log_after)
            if events or text or ended or time.monotonic() > deadline:
                return events, text

    def stop(self) -> None:
        self._worker.stop()

    def kill(self) -> None:
        self._worker.kill()

    def drop_run(self) -> None:
        self._worker.drop_run()

    def close(self) -> None:
        self._worker.close()
        if self._private:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _find_root(self) -> Path:
        """Returns the folder of all runs on this machine."""
        root = Path(self._home.root)
        if not self._private or not (root.is_absolute() or ".." in root.parts):
            return root
        return Path(self._home.root_mark).parent if self._same_root else Path("runs")

    def _make_folder(self) -> Path:
        """Returns a new folder with links to all files of the project's copy, and to the folder of all runs."""
        self._store.mkdir(exist_ok=True)
        for old in self._store.glob("actor-*"):
            if not is_alive(int(old.name.split("-")[1])):
                shutil.rmtree(old, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=self._store, prefix=f"actor-{os.getpid()}-"))
        _link(self._project, folder)
        if self._same_root and not self._root.is_absolute():
            shutil.rmtree(folder / self._root, ignore_errors=True)
            (folder / self._root).parent.mkdir(parents=True, exist_ok=True)
            (folder / self._root).symlink_to(Path(self._home.root_mark).parent)
        return folder


def _link(source: Path, target: Path) -> None:
    """Makes `target` look like `source`, with folders of its own and a link for each file."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for entry in source.iterdir():
            _link(entry, target / entry.name)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(source)


def _read(log: Path, after: int) -> bytes:
    try:
        with log.open("rb") as file:
            file.seek(after)
            return file.read(LOG_BYTES)
    except OSError:
        return b""
