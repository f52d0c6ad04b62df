"""The workers of a sweep on a Ray cluster: as many as fit, more when nodes come and fewer when nodes go."""

import contextlib
import json
import logging
import math
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from ray._private import worker as ray_worker
from ray.exceptions import RayError

from genlab.runs.errors import UsageError, error_message
from genlab.runs.folder import remove_empty
from genlab.sweep.fleet import Notify, RayOptions
from genlab.sweep.owner import is_gone, this_process
from genlab.sweep.ray_actor import PACKAGE, Home, RayActor
from genlab.sweep.ray_worker import RayWorker, Sender
from genlab.sweep.worker import Outcome, Worker
from genlab.words import counted

ADD_SECONDS = 1.0
"""How often the number of workers is considered."""
WAIT_SECONDS = 10.0
"""After this time without a place for the first worker, a message says what it waits for."""
ANSWER_SECONDS = 10.0
"""How long a cluster may take to answer."""
STEADY = 3
"""After this number of times without a change, a message says how many workers there are."""
CALLS = 8
"""How many calls an actor answers at a time: one waits for events, others stop the run."""
SENT_BYTES = 4 * 2**30
"""The folder of data goes to the nodes by itself up to this size."""
NOT_SENT = (".git", ".venv", "/venv", "/wandb", "/runs", "/data", "*.ckpt", "*.npz")
"""What does not belong to the code of a project, in the syntax of .gitignore."""
TOO_LARGE = (
    "Ray sends the code of the current folder to the nodes, up to 500 MiB, and here is more; name large files "
    "in .gitignore and those that runs need by --send, or move them out of this folder"
)


class RayFleet:
    """Workers that Ray places on the nodes of a cluster.

    Args:
        program: The program of the runs.
        root: Folder of all runs.
        options: How to use the cluster.
        workers: The maximum number of workers; None is as many as fit.
        data: The folder of data.
        variables: Environment variables of the workers, in addition to W&B's of this process.
        notify: Called with a message for the user.
    """

    def __init__(
        self,
        program: Path,
        root: str,
        options: RayOptions,
        workers: int | None,
        data: str,
        variables: Mapping[str, str],
        notify: Notify,
    ) -> None:
        for path in options.send:
            if not _is_inside(path) or not Path(path).exists():
                raise UsageError(f"--send {path}: give a file or folder in the current folder, by its relative path")
        self.workers: list[Worker] = []
        self._program, self._root, self._options, self._limit, self._notify = program, root, options, workers, notify
        send = [*options.send, *([data] if _can_be_sent(data) else [])]
        self._sender = Sender(dict.fromkeys(send))
        self._not_sent = [*NOT_SENT, *(f"/{Path(path)}" for path in (root, data) if _is_inside(path))]
        wandb = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
        wandb.pop("WANDB_SERVICE", None)
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, int(options.cpus))))
        self._variables = {"OMP_NUM_THREADS": threads, **wandb, **variables}
        self._marks: list[Path] = []
        self._made: list[Path] = []
        self._new: list[RayWorker] = []
        self._next = 0.0
        self._nodes: set[str] = set()
        self._seen: list[str] = []
        self._steady = 0
        self._most = 0

    def open(self) -> None:
        self._connect()
        self._home = self._mark()
        self._actor = self._describe_actor()
        self._new = [self.new_worker()]
        ready, notice = threading.Event(), threading.Timer(WAIT_SECONDS, self._say_what_is_missing)
        notice.daemon = True
        notice.start()
        try:
            self._new[0].wait_until_ready(ready)
        finally:
            notice.cancel()

    def close(self) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Worker.close, self.workers))
        for mark in self._marks:
            mark.unlink(missing_ok=True)
        remove_empty(*self._made)
        ray.shutdown()

    def add(self, waiting: Callable[[], float]) -> Sequence[Worker]:
        new, self._new = self._new, []
        if new or (self.workers and time.monotonic() < self._next):
            return new
        self._next = time.monotonic() + ADD_SECONDS
        pending = [worker for worker in self._ray_workers() if not worker.placed]
        left = waiting()
        for worker in pending[int(max(0, min(left, len(pending)))) :]:
            worker.cancel()
        self._say_where()
        if left <= 0:
            return []
        if self._limit is not None:
            return self._make(min(left, self._limit - len(self.workers)))
        placed = len(self.workers) - len(pending)
        return self._make(min(left, max(1, placed, self.room() - placed)) - len(pending))

    def is_spare(self, worker: Worker) -> bool:
        return True

    def run_ended(self, worker: Worker, outcome: Outcome, kept: bool, waiting: Callable[[], float]) -> None: ...

    def gives_back(self, worker: Worker, number: int, outcome: Outcome) -> bool:
        return False

    def was_given_back(self, number: int) -> bool:
        return False

    def leave(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.close()

    def summary(self) -> str | None:
        return f"--ray: at most {counted(self._most, 'worker')} at a time" if self._most else None

    def _connect(self) -> None:
        """Connects to the cluster; for `auto`, starts Ray on this machine if it does not run.

        Raises:
            UsageError: There is no cluster at the address, or the project is too large to be sent.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        quiet: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False}
        ray_worker.print_to_stdstream = lambda *_, **__: None  # long advice for each worker that dies
        given = self._options.address
        given = os.environ.get("RAY_ADDRESS", given) if given == "auto" else given
        address = _address_here() if given == "auto" else given
        if address is not None and _answers(address, given):
            try:  # by the word auto, Ray finds the token of a cluster of this machine, too
                ray.init(address="auto" if given == "auto" else address, runtime_env=self._project(), **quiet)
            except (RayError, RuntimeError, ValueError, OSError) as error:
                raise UsageError(f"--ray {given}: {_why_not_connected(error)}") from None
            return
        ray.init(address="local", include_dashboard=False, **quiet)
        cpus = ray.cluster_resources().get("CPU", 0)
        self._notify(f"--ray: no cluster runs on this machine, so Ray has been started here ({cpus:g} CPUs)")

    def _project(self) -> dict[str, Any] | None:
        """Returns Ray's description of the code, which goes to the nodes; None if a Ray job has sent it."""
        job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
        if "working_dir" in job.get("runtime_env", {}):
            return None
        project: dict[str, Any] = {"working_dir": ".", "excludes": self._not_sent}
        if not PACKAGE.is_relative_to(Path.cwd()):
            names = ("genlab", "lit_models", "datamodules")
            project["py_modules"] = [str(PACKAGE.parent / name) for name in names if (PACKAGE.parent / name).is_dir()]
        return project

    def _mark(self) -> Home:
        """Writes files by which a node sees which folders it shares with this machine."""
        root, name = Path(self._root), uuid.uuid4().hex
        text = this_process(name)
        self._made = [folder for folder in (root, *root.parents) if not folder.exists()]
        root.mkdir(parents=True, exist_ok=True)
        self._marks = [folder.absolute() / f".ray-{name}" for folder in (Path(), root)]
        for old in (*Path().glob(".ray-*"), *root.glob(".ray-*")):
            if is_gone(old.read_text(encoding="utf-8")):  # its process was killed
                old.unlink(missing_ok=True)
        for mark in self._marks:
            mark.write_text(text, encoding="utf-8")
        program, folder = self._program.absolute(), Path.cwd()
        if program.is_relative_to(folder):
            program = program.relative_to(folder)
        elif program.is_relative_to(PACKAGE):
            program = program.relative_to(PACKAGE.parent)
        folder_mark, root_mark = map(str, self._marks)
        return Home(str(folder), str(program), self._root, folder_mark, root_mark, text)

    def _describe_actor(self) -> Any:
        """Returns Ray's class of the actors."""
        resources = ray.cluster_resources()
        gpus = self._options.gpus
        self._gpus = float(resources.get("GPU", 0) > 0) if gpus is None else gpus
        common = {"num_cpus": self._options.cpus, "num_gpus": self._gpus}
        return ray.remote(RayActor).options(**common, max_concurrency=CALLS)

    def _make(self, count: float) -> list[RayWorker]:
        return [self.new_worker() for _ in range(int(max(0, count)))]

    def new_worker(self) -> RayWorker:
        """Returns a worker that asks Ray for a place when it is needed, or the one that `open` made."""
        if self._new:
            return self._new.pop()
        new = RayWorker(lambda: self._actor.remote(self._home, self._variables), self._home, self._sender, self._notify)
        self.workers.append(new)
        return new

    def _ray_workers(self) -> list[RayWorker]:
        return [worker for worker in self.workers if isinstance(worker, RayWorker)]

    def room(self) -> int:
        """Returns how many workers fit on the nodes of the cluster, if nobody else uses them; at least one."""
        return max(1, sum(self._fitting(node["Resources"]) for node in ray.nodes() if node["Alive"]))

    def _fitting(self, resources: dict[str, float]) -> int:
        cpus, gpus = self._options.cpus, self._gpus
        by_cpu = resources.get("CPU", 0) / cpus if cpus else math.inf
        by_gpu = math.inf
        if gpus:
            count = int(resources.get("GPU", 0))
            by_gpu = count // gpus if gpus >= 1 else count * int(1 / gpus + 1e-9)
        return int(min(by_cpu, by_gpu, 2**20))

    def _say_what_is_missing(self) -> None:
        wanted = [f"{self._options.cpus:g} CPU"] + ([f"{self._gpus:g} GPU"] if self._gpus else [])
        self._notify(f"--ray: no node has room for a worker ({', '.join(wanted)}) yet; waiting for one")

    def _say_where(self) -> None:
        """Tells how many workers there are, once after the nodes that have workers have changed."""
        placed = [worker.node for worker in self._ray_workers() if worker.placed]
        self._most = max(self._most, len(placed))
        self._steady = self._steady + 1 if placed == self._seen else 0
        if placed and set(placed) != self._nodes and self._steady == STEADY:
            self._nodes = set(placed)
            self._notify(f"--ray: {counted(len(placed), 'worker')} on {counted(len(self._nodes), 'node')}")
        self._seen = placed


def _address_here() -> str | None:
    """Returns the address of the cluster of this machine, where `ray start` has written it; None without one."""
    file = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / "ray_current_cluster"
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def _answers(address: str, given: str) -> bool:
    """Returns whether a cluster answers at an address; Ray itself would try for minutes.

    Raises:
        UsageError: The user has given an address at which nothing answers.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise UsageError(f"--ray {given}: write HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        if given == "auto":
            return False
        raise UsageError(f"--ray {given}: no cluster can be used there ({error_message(error)})") from None
    return True


def _why_not_connected(error: BaseException) -> str:
    reason: BaseException | None = error
    while reason is not None:
        if "AuthToken" in str(reason):
            return (
                "the cluster asks for its token; set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token from its first "
                "machine to this one"
            )
        if "exceeds the maximum" in str(reason):
            return TOO_LARGE
        reason = reason.__cause__ or reason.__context__
    return f"no cluster can be used there ({error_message(error)})"


def _is_inside(path: str) -> bool:
    """Whether a path leads into the current folder."""
    return not os.path.isabs(path) and ".." not in Path(path).parts and path != "."


def _can_be_sent(data: str) -> bool:
    """Whether the folder of data is in the current folder and not too large."""
    if not _is_inside(data) or not Path(data).exists():
        return False
    with contextlib.suppress(OSError):
        return sum(file.stat().st_size for file in Path(data).rglob("*") if file.is_file()) <= SENT_BYTES
    return False
