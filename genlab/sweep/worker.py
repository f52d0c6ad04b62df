"""Warm workers: a process that imports a program once and then runs it many times, told what to do in JSON lines.

The program is a Python file with `main(args, report)`, such as train.py. `Worker` is the side of the one who gives
the runs; `serve` is the worker's own.
"""

import contextlib
import errno
import gc
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import IO, Any, Literal

from genlab.runs.errors import UsageError, described

Json = dict[str, Any]
SECONDS_TO_STOP = 60.0
"""How long a worker that was told to stop may take to write its checkpoint."""
ORPHAN_SECONDS = 20.0
"""The same for one whose parent has died: its run may be given to another before long."""
MOST_TRIES = 3
"""How often to ask a question whose process dies over it."""


@dataclass
class Outcome:
    """How a run ended.

    Args:
        state: finished, failed (it raised), stopped (by a signal or, with the error, a full disk; it can go on from its
            last checkpoint) or died (its process did).
        metrics: what it measured.
        folder: its run folder, once it is known.
        error: in one line.
        early: whether it was ended early because it was asked to.
    """

    state: Literal["finished", "failed", "stopped", "died"]
    metrics: dict[str, float] = field(default_factory=dict)
    folder: str | None = None
    error: str | None = None
    early: bool = False
    seconds: float = 0.0


OnProgress = Callable[[Json], bool]
"""Hears `epoch`, `epochs` and `metrics` of a run at each epoch's end; its answer is whether to end the run there."""


class Worker:
    """One worker process, started when it is first needed and again after it died.

    Args:
        program: the file whose `main` runs.
        environment: variables beside those of this process, such as CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, program: Path, environment: Mapping[str, str] | None = None) -> None:
        self.program = program
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[str] | None = None
        self._told_to_stop = False
        self._lost = False

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def run(
        self,
        args: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Outcome:
        """One run of the program; what it prints is added to the file `log`. Never raises for the run's own faults."""
        began = time.monotonic()
        if self._told_to_stop:
            return Outcome("stopped")
        self._lost = False
        request = {"do": "run", "args": list(args), "log": str(log), "environment": dict(environment or {})}
        early, ended = False, None
        for reply in self._ask(request):
            if "progress" in reply:
                stop = on_progress is not None and on_progress(reply["progress"])
                early |= stop
                self._send({"stop": stop})
            else:
                ended = Outcome(**reply)
        if ended is None:
            stopped = self._told_to_stop or self._lost
            ended = Outcome("stopped") if stopped else Outcome("died", error=self._end_of_process())
        ended.early, ended.seconds = early, time.monotonic() - began
        return ended

    def check(self, commands: Sequence[Sequence[str]]) -> list[str | None]:
        """What is wrong with each command line, if anything, by the program's `check(args)` where it has one."""
        return self._question({"do": "check", "commands": [list(args) for args in commands]})

    def logged(self, args: Sequence[str]) -> Json | None:
        """What a run logs: `epoch` and `end`, names of metrics; or `error`, why it cannot even begin.

        By the program's `logged(args)`; None where it has none.
        """
        return self._question({"do": "logged", "args": list(args)})

    def _question(self, request: Json) -> Any:
        for _ in range(MOST_TRIES):
            for reply in self._ask(request):
                return reply["answer"]
            reason = self._end_of_process()
        raise UsageError(f"{self.program} cannot be loaded: {reason}")

    def stop(self) -> None:
        """Tells a run in hand to write its checkpoint and end, and the process to go; does not wait."""
        self._told_to_stop = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._told_to_stop = True
        self._signal(signal.SIGKILL)

    def drop_run(self) -> None:
        """Ends the run in hand at once; the next one gets a new process."""
        self._lost = True
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """Waits for the process to go, at most `SECONDS_TO_STOP`."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _ask(self, request: Json) -> Iterator[Json]:
        """Sends a request; yields the replies up to the last one, or up to the death of the process."""
        process = self._alive()
        if not self._send(request):
            return
        for line in process.stdout:  # type: ignore[union-attr]
            reply = json.loads(line)
            if "cannot_load" in reply:
                raise UsageError(f"{self.program} cannot be loaded: {reply['cannot_load']}")
            yield reply
            if "progress" not in reply:
                return

    def _alive(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from genlab.sweep.worker import serve; serve()", str(self.program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": _search_path(), **self.environment},
                text=True,
                start_new_session=True,  # Ctrl-C in the terminal is for the one who gives the runs
            )
        return self._process

    def _send(self, message: Json) -> bool:
        try:
            assert self._process is not None and self._process.stdin is not None
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            return False
        return True

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _end_of_process(self) -> str:
        """Why the process is gone, in words."""
        assert self._process is not None
        try:
            status = self._process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if status >= 0:
            return f"its process ended with status {status}"
        return f"its process was ended by {signal.Signals(-status).name}"


def _search_path() -> str:
    here = str(Path(__file__).parents[2])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


def serve() -> None:
    """The worker's own side: requests come on stdin, replies go to stdout, each a line of JSON."""
    inbox, outbox = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    busy = threading.Event()
    requests = _listen(inbox, busy)
    program: ModuleType | None = None
    told_wandb: dict[str, str] = {}

    def reply(message: Json) -> None:
        outbox.write(json.dumps(message) + "\n")
        outbox.flush()

    while (request := requests.get()) is not None:
        busy.set()
        with _printing_to(request.get("log")):
            try:
                if program is None:
                    program = _load(Path(sys.argv[1]))
                    gc.freeze()  # what was imported stays, so collecting after each run need not look at it
            except Exception as error:
                reply({"cannot_load": _reason(error)})
                continue
        if request["do"] != "run":
            answer = _answer(program, request)
            busy.clear()
            reply({"answer": answer})
            continue
        with _printing_to(request["log"]), _environment(request["environment"]):
            told_wandb = _renew_wandb(told_wandb, request["environment"])
            sys.argv[1:] = request["args"]  # for Lightning, which starts further processes by this command line

            def report(progress: Any) -> bool:
                reply({"progress": asdict(progress)})
                answer = requests.get()
                return answer is not None and answer["stop"]

            outcome = _run(program, request["args"], report)
        gc.collect()
        busy.clear()
        reply(asdict(outcome))
        if outcome.state == "stopped":
            return


def _answer(program: ModuleType, request: Json) -> Any:
    """To a question before a sweep; a program that cannot answer has nothing against it."""
    if request["do"] == "check":
        return [program.check(args) if hasattr(program, "check") else None for args in request["commands"]]
    if not hasattr(program, "logged"):
        return None
    try:
        return program.logged(request["args"])
    except (Exception, SystemExit) as error:
        return {"error": _reason(error)}


def _run(program: ModuleType, args: list[str], report: Callable[[Any], bool]) -> Outcome:
    try:
        result = program.main(args, report)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # W&B interrupts a run that is stopped in its pages
        if type(error).__name__ == "SIGTERMException":
            return Outcome("stopped")
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return Outcome("stopped", error="the disk is full")
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        return Outcome("failed", error=_reason(error))
    return Outcome("finished", result.metrics, str(result.folder))


def _listen(inbox: IO[str], busy: threading.Event) -> "SimpleQueue[Json | None]":
    """Requests as they come; None when the parent is gone, which also stops the run in hand."""
    requests: SimpleQueue[Json | None] = SimpleQueue()

    def listen() -> None:
        for line in inbox:
            requests.put(json.loads(line))
        requests.put(None)
        if busy.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    return requests


def _load(path: Path) -> ModuleType:
    """Imports a Python file as the module of its name."""
    path = path.resolve()
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.argv[0] = str(path)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _printing_to(log: str | None) -> Iterator[None]:
    """Everything that this process prints, from C as well, is added to a file."""
    if log is None:
        yield
        return
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    before = [os.dup(stream) for stream in (1, 2)]
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(target, stream)
    os.close(target)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, old in zip((1, 2), before, strict=True):
            os.dup2(old, stream)
            os.close(old)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _renew_wandb(seen: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Makes W&B, which reads its variables once a process, read them again when a run has others than were `seen`."""
    own = {name: value for name, value in variables.items() if name.startswith("WANDB_")}
    if own != seen and "wandb" in sys.modules:
        sys.modules["wandb"].teardown()
    return own


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it ended with status {error.code}; its log says why"
    return described(error)
