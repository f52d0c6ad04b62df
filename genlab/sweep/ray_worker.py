"""A worker on a Ray cluster, with the interface of a worker process on this machine."""

import contextlib
import errno
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from genlab.runs.config import option
from genlab.runs.errors import UsageError, describe_error
from genlab.sweep.parcels import pack, unpack_whole
from genlab.sweep.ray_actor import Home, Pieces
from genlab.sweep.worker import (
    MAX_ATTEMPTS,
    ORPHAN_SECONDS,
    STOP_SECONDS,
    Json,
    OnProgress,
    Outcome,
    Worker,
    WorkerLostError,
)

PAUSE_SECONDS = 1.0
FULL_DISK_SECONDS = 10.0
"""How often a run whose files found the disk full tries to come home again."""


class Sender:
    """Files of this machine as parcels in Ray's object store, each of which is made once.

    Args:
        always: Files and folders that each node without this file system gets.
    """

    def __init__(self, always: Iterable[str] = ()) -> None:
        self.always = list(always)
        self._parcels: dict[str, Pieces] = {}
        self._lock = threading.Lock()

    def parcel(self, path: str) -> tuple[str, Pieces]:
        """Returns the key and the pieces of a file or folder, relative to the current folder."""
        with self._lock:
            if path not in self._parcels:
                self._parcels[path] = pack(Path(), Path(path), ray.put, follow=True)
        pieces = self._parcels[path]
        return hashlib.sha256(repr((path, [piece.hex() for piece in pieces])).encode()).hexdigest()[:16], pieces


class RayWorker(Worker):
    """An actor on a node of a Ray cluster that holds a worker process.

    Args:
        make_actor: Asks Ray for an actor.
        home: Where the sweep was started.
        sender: Sends files to nodes that do not have them.
        notify: Called with a message for the user.
    """

    def __init__(
        self, make_actor: Callable[[], Any], home: Home, sender: Sender, notify: Callable[[str], None]
    ) -> None:
        super().__init__(Path(home.program))
        self._make_actor, self._home, self._sender, self._notify = make_actor, home, sender, notify
        self._actor: Any = None
        self._asked: Any = None
        self._place: Json | None = None
        self._cancelled = False

    @property
    def placed(self) -> bool:
        """Whether Ray has found a node for the actor."""
        return self._place is not None

    @property
    def node(self) -> str:
        """Ray's id of the node; empty without one."""
        return self._place["node"] if self._place is not None else ""

    def cancel(self) -> None:
        """Ends the wait for a node."""
        self._cancelled = True

    def wait_until_ready(self, closing: threading.Event) -> bool:
        while not closing.is_set() and not self._cancelled:
            try:
                if self._place is not None or self._find_place():
                    return True
            except RayActorError:
                self._forget()
                closing.wait(PAUSE_SECONDS)
        return False

    def _find_place(self) -> bool:
        """Returns whether the actor is on a node and has its files, after waiting a moment for it."""
        if self._actor is None:
            self._actor = self._make_actor()
            self._asked = self._actor.place.remote()
        if not ray.wait([self._asked], timeout=PAUSE_SECONDS)[0]:
            return False
        place = ray.get(self._asked)
        if place["private"]:
            self._send_missing(self._sender.always)
        self._place = place
        return True

    def _send_missing(self, paths: Sequence[str]) -> None:
        for path in ray.get(self._actor.missing.remote(list(paths))):
            ray.get(self._actor.receive.remote(path, *self._sender.parcel(path)))

    def run(
        self,
        args: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Outcome:
        began = time.monotonic()
        if self._stopping:
            return Outcome("stopped")
        self._dropped = False
        files = {name: Path(value) for name, value in (environment or {}).items() if os.path.isfile(value)}
        contents = {name: path.read_bytes() for name, path in files.items()}
        variables = {name: value for name, value in (environment or {}).items() if name not in files}
        try:
            if self._place is not None and self._place["private"]:
                self._send_files_of(args)
            ray.get(self._actor.start.remote(list(args), str(log), variables, contents))
            outcome = self._follow(log, on_progress)
        except RayActorError:
            outcome = self._outcome_of_death()
        except RayTaskError as error:
            raise UsageError(_first_line(error)) from None
        outcome.seconds = time.monotonic() - began
        return outcome

    def _send_files_of(self, args: Sequence[str]) -> None:
        """Sends the files and folders that the arguments name, and the run that they continue."""
        checkpoint = option(list(args), "ckpt_path")
        values = {arg.partition("=")[2] or arg for arg in args} - {checkpoint}
        named = [value for value in values if not os.path.isabs(value) and os.path.exists(value)]
        self._send_missing([path for path in named if not Path(path).samefile(self._home.root)])
        if checkpoint is not None and not self._place["same_root"]:  # type: ignore[index]
            run = Path(checkpoint).parents[1].relative_to(self._home.root)
            pieces = pack(Path(self._home.root), run, ray.put)
            ray.get(self._actor.receive_run.remote(pieces))

    def _follow(self, log: Path, on_progress: OnProgress | None) -> Outcome:
        """Answers the progress of a run and copies its output, until it has ended."""
        count, size, early = 0, 0, False
        outcome: Outcome | None = None
        while True:
            events, text = self._events(count, size)
            count, size = count + len(events), size + len(text)
            if text:
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("ab") as file:
                    file.write(text)
            for event in events:
                if "progress" in event:
                    progress = event["progress"]
                    stop = on_progress is not None and on_progress(progress)
                    stop = stop and progress["epoch"] != progress["epochs"]  # after its last epoch, a run ends anyway
                    early |= stop
                    self._actor.answer.remote(stop)
                elif "error" in event:
                    raise UsageError(event["error"])
                else:
                    outcome = self._receive(event)
            if outcome is not None and not text:
                outcome.early = early
                return outcome

    def _events(self, count: int, size: int) -> tuple[list[Json], bytes]:
        while True:
            try:
                return ray.get(self._actor.events.remote(count, size))
            except ActorUnavailableError:  # the network, or a node whose death is not known yet
                time.sleep(PAUSE_SECONDS)

    def _receive(self, event: Json) -> Outcome:
        """Brings the runs of an outcome home, each whole or not at all."""
        outcome = Outcome(**event["outcome"])
        for run, pieces in event["runs"].items():
            while not self._bring_home(Path(run), pieces):
                time.sleep(FULL_DISK_SECONDS)
        if outcome.folder is not None:
            outcome.folder = str(Path(self._home.root) / outcome.folder)
        return outcome

    def _bring_home(self, run: Path, pieces: Pieces) -> bool:
        """Returns False if the disk is full, as long as no signal asks for an end."""
        try:
            unpack_whole(map(ray.get, pieces), Path(self._home.root), run)
        except OSError as error:
            if error.errno != errno.ENOSPC or self._stopping:
                raise
            self._notify(f"{run.name}: the disk is full; the run waits on its node until some space is free")
            return False
        return True

    def _outcome_of_death(self) -> Outcome:
        """Returns how a run ended whose actor has died. Its process has ended then, too, or its files do not matter."""
        place = self._place
        self._forget()
        if self._stopping or self._dropped:
            return Outcome("stopped")
        if place is None or not is_alive(place["node"]):
            return Outcome("lost", error="its node died")
        if place["same_root"] and place["host"] != socket.gethostname():
            time.sleep(ORPHAN_SECONDS)
        return Outcome("crashed", error="its worker was killed")

    def _question(self, request: Json) -> Any:
        reply: Json = {}
        for _ in range(MAX_ATTEMPTS):
            try:
                reply = ray.get(self._actor.question.remote(request))
                break
            except ActorUnavailableError:
                time.sleep(PAUSE_SECONDS)
            except RayActorError:
                break
        if "error" in reply:
            raise UsageError(reply["error"])
        if "answer" not in reply:
            self._forget()
            raise WorkerLostError(reply.get("died", "its worker was lost"))
        return reply["answer"]

    def require_gpus(self) -> None:
        """Does nothing: Ray says which GPUs a worker has."""

    def stop(self) -> None:
        self._stopping = True
        self._tell("stop")

    def kill(self) -> None:
        self._stopping = True
        self._tell("kill")

    def drop_run(self) -> None:
        self._dropped = True
        self._tell("drop_run")

    def _tell(self, method: str) -> None:
        """Calls a method of the actor without waiting for its end."""
        actor = self._actor
        if actor is not None and self.placed:
            getattr(actor, method).remote()

    def close(self) -> None:
        if self._actor is not None and self.placed:
            with contextlib.suppress(RayError):
                ray.get(self._actor.close.remote(), timeout=STOP_SECONDS)
        self._forget()

    def _forget(self) -> None:
        """Gives up the actor, which Ray ends."""
        actor, self._actor, self._place = self._actor, None, None
        if actor is not None:
            with contextlib.suppress(RayError, RuntimeError):
                ray.kill(actor)


def is_alive(node: str) -> bool:
    """Returns whether a node belongs to the cluster."""
    return any(other["NodeID"] == node and other["Alive"] for other in ray.nodes())


def _first_line(error: RayTaskError) -> str:
    return describe_error(error.cause) if isinstance(error.cause, Exception) else str(error).splitlines()[-1]
