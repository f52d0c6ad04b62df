"""A worker on a Ray cluster, with the interface of a worker process on this machine."""

import contextlib
import errno
import hashlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import ActorUnavailableError, ObjectLostError, RayActorError, RayError, RayTaskError

from genlab.runs.config import option
from genlab.runs.errors import UsageError, describe_error
from genlab.sweep.parcels import pack, unpack_whole
from genlab.sweep.ray_actor import Home, Pieces
from genlab.sweep.worker import (
    MAX_ATTEMPTS,
    STOP_SECONDS,
    Json,
    OnProgress,
    Outcome,
    Worker,
    WorkerDiedError,
    WorkerLostError,
)

PAUSE_SECONDS = 1.0
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
FULL_DISK_SECONDS = 10.0
"""How often files that found the disk full try to come home again."""
KILL_SECONDS = 10.0
"""After this time, a run that was killed is given up although its node does not answer."""
T = TypeVar("T")


class Sender:
    """Files of this machine as parcels in Ray's object store, each of which is made once.

    Args:
        always: Files and folders that each node without this file system gets.
    """

    def __init__(self, always: Iterable[str] = ()) -> None:
        self.always = list(always)
        self._parcels: dict[str, tuple[str, Pieces]] = {}
        self._lock = threading.Lock()

    def parcel(self, path: str) -> tuple[str, Pieces]:
        """Returns the hash and the pieces of a file or folder, relative to the current folder."""
        with self._lock:
            if path not in self._parcels:
                digest = hashlib.sha256()

                def put(piece: bytes) -> Any:
                    digest.update(piece)
                    return ray.put(piece)

                pieces = pack(Path(), Path(path), put, follow=True)
                self._parcels[path] = digest.hexdigest()[:32], pieces
        return self._parcels[path]


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
        self._killed_at = math.inf

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
        failures = 0
        while not closing.is_set() and not self._cancelled:
            try:
                if self._place is not None or self._find_place():
                    return True
            except RayError as error:
                self._forget()
                failures += not isinstance(error, RayActorError) or error.actor_init_failed
                if failures == MAX_ATTEMPTS:
                    raise UsageError(f"--ray: a node cannot start a worker: {_in_one_line(error)}") from None
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
            self._send_paths(self._sender.always)
        self._place = place
        return True

    def _send_paths(self, paths: Sequence[str]) -> None:
        for path in paths:
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
            outcome = self._follow(args, log, on_progress)
        except RayTaskError as error:
            raise UsageError(_in_one_line(error)) from None
        except (RayActorError, ObjectLostError):
            outcome = self._outcome_of_death()
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            outcome = Outcome("stopped", error="the disk is full")
        outcome.seconds = time.monotonic() - began
        return outcome

    def _send_files_of(self, args: Sequence[str]) -> None:
        """Sends the files and folders that the arguments name, and the run that they continue."""
        checkpoint, root = option(list(args), "ckpt_path"), Path(self._home.root)
        values = {arg.partition("=")[2] or arg for arg in args} - {checkpoint}
        named = [value for value in values if not os.path.isabs(value) and os.path.exists(value)]
        named = [value for value in named if not Path(value).samefile(root)]
        self._send_paths(ray.get(self._actor.missing.remote(named)))
        if checkpoint is not None and not self._place["same_root"]:  # type: ignore[index]
            run = Path(checkpoint).parents[1].relative_to(root)
            ray.get(self._actor.receive_run.remote(pack(root, run, ray.put)))

    def _follow(self, args: Sequence[str], log: Path, on_progress: OnProgress | None) -> Outcome:
        """Answers the progress of a run and copies its output, until it has ended."""
        count, size = 0, 0
        stop: bool | None = None
        outcome: Outcome | None = None
        while True:
            events, text = self._events(count, size, stop)
            count, size, stop = count + len(events), size + len(text), None
            if text:
                self._write_home(log.stem, partial(_append, log, text))
            for event in events:
                if "progress" in event:
                    stop = on_progress is not None and on_progress(event["progress"])
                elif "error" in event:
                    raise UsageError(event["error"])
                else:
                    outcome = self._receive(event, args)
            if outcome is not None and not text:
                outcome.error = outcome.error and self._with_advice(outcome.error)
                return outcome

    def _events(self, count: int, size: int, stop: bool | None) -> tuple[list[Json], bytes]:
        """Waits for events, as `RayActor.events`, even while the node cannot be reached."""
        while True:
            asked = self._actor.events.remote(count, size, stop)
            try:
                while not ray.wait([asked], timeout=PAUSE_SECONDS)[0]:
                    if time.monotonic() > self._killed_at + KILL_SECONDS:
                        raise RayActorError
                return ray.get(asked)
            except ActorUnavailableError:  # the network, or a node whose death is not known yet
                time.sleep(PAUSE_SECONDS)

    def _receive(self, event: Json, args: Sequence[str]) -> Outcome:
        """Brings the runs of an outcome home, each whole or not at all."""
        outcome, root = Outcome(**event["outcome"]), Path(self._home.root)
        replace = option(list(args), "run.overwrite") == "true" or option(list(args), "ckpt_path") is not None
        for run, pieces in event["runs"].items():
            home = self._write_home(Path(run).name, partial(_unpack, pieces, root, Path(run), replace))
            if outcome.folder == run:
                outcome.folder = str(home.relative_to(root))
        if outcome.folder is not None:
            outcome.folder = str(root / outcome.folder)
        return outcome

    def _write_home(self, run: str, write: Callable[[], T]) -> T:
        """Writes files of a run here. If the disk is full, tries again as long as no signal asks for an end."""
        told = False
        while True:
            try:
                return write()
            except OSError as error:
                if error.errno not in FULL_DISK or self._stopping:
                    raise
            if not told:
                self._notify(f"{run}: the disk is full; the run waits on its node until some space is free")
            told = True
            time.sleep(FULL_DISK_SECONDS)

    def _outcome_of_death(self) -> Outcome:
        """Returns how a run ended whose actor has died."""
        place = self._place
        self._forget()
        if self._stopping or self._dropped:
            return Outcome("stopped")
        if place is None or not is_alive(place["node"]):
            return Outcome("lost", error="its node died")
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
        if "died" in reply:
            raise WorkerDiedError(reply["died"])
        if "answer" not in reply:
            self._forget()
            raise WorkerLostError("its worker was lost")
        return reply["answer"]

    def logged(self, args: Sequence[str]) -> Json | None:
        answer = super().logged(args)
        if answer is not None and "error" in answer:
            answer["error"] = self._with_advice(answer["error"])
        return answer

    def _with_advice(self, error: str) -> str:
        """Adds what to do about a file that is on this machine only."""
        words = [word.strip("'\":;,.()") for word in error.split()]
        here = [word for word in words if "/" in word and not os.path.isabs(word) and os.path.exists(word)]
        if not here or self._place is None or not self._place["private"]:
            return error
        return f"{error}; the node does not have it: add --send {here[0]}, or --send its folder"

    def require_gpus(self) -> None:
        """Does nothing: Ray says which GPUs a worker has."""

    def stop(self) -> None:
        self._stopping = True
        self._tell("stop")

    def kill(self) -> None:
        self._stopping, self._killed_at = True, min(self._killed_at, time.monotonic())
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


def _append(log: Path, text: bytes) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(text)


def _unpack(pieces: Pieces, root: Path, run: Path, replace: bool) -> Path:
    return unpack_whole(map(ray.get, pieces), root, run, replace)


def _in_one_line(error: RayError) -> str:
    cause = getattr(error, "cause", None)
    return describe_error(cause) if isinstance(cause, Exception) else str(error).strip().splitlines()[-1]
