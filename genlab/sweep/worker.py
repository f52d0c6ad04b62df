"""Persistent worker processes: a worker imports a program once and then runs it many times.

The program is a Python file with `main(args, report)`, such as train.py. The parent process uses `Worker`, the worker
process executes `serve`, and they exchange requests and replies as lines of JSON.
"""

import contextlib
import errno
import gc
import importlib.util
import io
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

from genlab.runs.config import differing_values
from genlab.runs.errors import UsageError, describe_error, is_full_gpu_memory

Json = dict[str, Any]
STOP_SECONDS = 60.0
"""How long a worker may take to write its checkpoint when it is stopped."""
ORPHAN_SECONDS = 20.0
"""The same for a worker whose parent has died. It is shorter, because another process may claim the run."""
MAX_ATTEMPTS = 3
"""How often a question is repeated if the worker process dies before it answers."""


@dataclass
class Outcome:
    """How a run ended.

    Args:
        state: `finished`; `failed`, if it raised an error; `stopped`, by a signal or a full disk, if it can resume from
            its last checkpoint; `crashed`, if its process died; or `lost`, if its machine is gone.
        metrics: The metrics that it measured.
        folder: Its run folder, if it is known.
        error: The error message in one line.
        early: Whether it was stopped early at the request of `on_progress`.
        seconds: How long it took.
        memory_full: Whether it failed because the memory of the GPU was full.
    """

    state: Literal["finished", "failed", "stopped", "crashed", "lost"]
    metrics: dict[str, float] = field(default_factory=dict)
    folder: str | None = None
    error: str | None = None
    early: bool = False
    seconds: float = 0.0
    memory_full: bool = False


class WorkerDiedError(UsageError):
    """The worker process died each time before it answered a question."""


class WorkerLostError(UsageError):
    """The machine of the worker is gone."""


OnProgress = Callable[[Json], bool]
"""Called after each epoch with `epoch`, `epochs`, `metrics` and, if the program counts them, `step`; returns whether to
stop the run early."""


class Worker:
    """One worker process. It is started when it is first needed, and again after it has died.

    Args:
        program: The Python file whose `main` is run.
        environment: Environment variables in addition to those of this process, such as CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, program: Path, environment: Mapping[str, str] | None = None) -> None:
        self.program = program
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[str] | None = None
        self._stopping = False
        self._dropped = False

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def wait_until_ready(self, closing: threading.Event) -> bool:
        """Waits until the worker can take a run; returns False if none shall begin any more."""
        return not closing.is_set()

    def run(
        self,
        args: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Outcome:
        """Runs the program once. Errors of the run are in the outcome and are not raised.

        Args:
            args: Arguments of the program.
            log: File to which the output of the program is appended.
            environment: Environment variables for this run.
            on_progress: Called at the end of each epoch; returns whether to stop the run early.
        """
        began = time.monotonic()
        if self._stopping:
            return Outcome("stopped")
        self._dropped = False
        request = {"do": "run", "args": list(args), "log": str(log), "environment": dict(environment or {})}
        early, outcome = False, None
        for reply in self._replies(request):
            if "progress" in reply:
                progress = reply["progress"]
                stop = on_progress is not None and on_progress(progress)
                stop = stop and progress["epoch"] != progress["epochs"]  # after its last epoch, a run ends anyway
                early |= stop
                self._send({"stop": stop})
            else:
                outcome = Outcome(**reply)
        if outcome is None:
            stopped = self._stopping or self._dropped
            outcome = Outcome("stopped") if stopped else Outcome("crashed", error=self._exit_reason())
        outcome.early, outcome.seconds = early, time.monotonic() - began
        return outcome

    def check(self, commands: Sequence[Sequence[str]]) -> list[str | None]:
        """Returns the error of each command line, None if it is valid, by the program's `check(args)` if it has one."""
        return self._question({"do": "check", "commands": [list(args) for args in commands]})

    def logged(self, args: Sequence[str]) -> Json | None:
        """Returns the names of the metrics that a run logs, by the program's `logged(args)`.

        Returns:
            A dict with the lists `epoch` and `end`, or with `error` if the run cannot start; None if the program has no
            `logged`.
        """
        return self._question({"do": "logged", "args": list(args)})

    def differing_options(self, args: Sequence[str], recorded: Json) -> list[str]:
        """Returns the options in which a run with these arguments differs from one with this recorded config.

        It is the answer of the program's `differing_options(args, recorded)`. Without such a function, the values on
        the command line are compared.
        """
        return self._question({"do": "compare", "args": list(args), "recorded": recorded})

    def used_resources(self) -> Json:
        """Returns what the process takes of the machine, as the function `used_resources`, or a `problem`."""
        try:
            return self._question({"do": "resources"})
        except WorkerDiedError as error:
            return {"problem": str(error)}

    def require_gpus(self) -> None:
        """Checks that the program sees all GPUs of --devices.

        Raises:
            UsageError: It does not.
        """
        names = [name for name in self.environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        seen = self._question({"do": "gpus"}) if names else None
        if seen is not None and seen < len(names):
            raise UsageError(
                f"--devices {','.join(names)}: PyTorch sees {seen} of these GPUs; `nvidia-smi -L` lists those of this "
                "machine, from 0; without --devices, runs use all of them, or the CPU where there is none"
            )

    def _question(self, request: Json) -> Any:
        for _ in range(MAX_ATTEMPTS):
            for reply in self._replies(request):
                return reply["answer"]
            reason = self._exit_reason()
        raise WorkerDiedError(f"{self.program} cannot be loaded: {reason}")

    def stop(self) -> None:
        """Tells the current run to write its checkpoint and the process to exit; does not wait."""
        self._stopping = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._stopping = True
        self._signal(signal.SIGKILL)

    def drop_run(self) -> None:
        """Kills the current run; the next one gets a new process."""
        self._dropped = True
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """Waits for the process to exit, and kills it after `STOP_SECONDS`."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _replies(self, request: Json) -> Iterator[Json]:
        """Sends a request; yields the replies until the last one, or until the process dies."""
        process = self._running_process()
        if not self._send(request):
            return
        for line in process.stdout:  # type: ignore[union-attr]
            reply = json.loads(line)
            if "cannot_load" in reply:
                raise UsageError(f"{self.program} cannot be loaded: {reply['cannot_load']}")
            yield reply
            if "progress" not in reply:
                return

    def _running_process(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from genlab.sweep.worker import serve; serve()", str(self.program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": search_path(), **self.environment},
                text=True,
                start_new_session=True,  # so that Ctrl-C in the terminal does not reach it
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

    def _exit_reason(self) -> str:
        """Waits for the end of the process and describes it."""
        assert self._process is not None
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if status >= 0:
            return f"its process ended with status {status}"
        return f"its process was killed by {signal.Signals(-status).name}"


def search_path() -> str:
    """Returns the PYTHONPATH of a process that imports genlab from here."""
    here = str(Path(__file__).parents[2])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


def serve() -> None:
    """The main loop of a worker process: reads requests from stdin and writes replies to stdout, as lines of JSON."""
    inbox, outbox = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    busy = threading.Event()
    requests = _listen(inbox, busy)
    program: ModuleType | None = None
    wandb_variables: dict[str, str] = {}

    def reply(message: Json) -> None:
        outbox.write(json.dumps(message) + "\n")
        outbox.flush()

    while (request := requests.get()) is not None:
        busy.set()
        with _redirect_output(request.get("log")):
            try:
                if program is None:
                    program = _load(Path(sys.argv[1]))
                    gc.freeze()  # the imported modules stay, so that a collection after each run can skip them
            except (Exception, SystemExit) as error:
                reply({"cannot_load": str(error) if isinstance(error, UsageError) else describe_error(error)})
                continue
        if request["do"] != "run":
            answer = _answer(program, request)
            busy.clear()
            reply({"answer": answer})
            continue
        with _redirect_output(request["log"]), _environment(request["environment"]):
            wandb_variables = _reset_wandb(wandb_variables, request["environment"])
            sys.argv[1:] = request["args"]  # Lightning starts further processes with this command line

            def report(progress: Any) -> bool:
                reply({"progress": asdict(progress)})
                answer = requests.get()
                return answer is not None and answer["stop"]

            outcome = _run(program, request["args"], report, request["log"])
        _free_memory()
        busy.clear()
        reply(asdict(outcome))
        if outcome.state == "stopped":
            return


def _free_memory() -> None:
    """Frees what the last run left. Memory that PyTorch keeps on a GPU would be missing to other workers there."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _answer(program: ModuleType, request: Json) -> Any:
    """Answers a `check`, `compare`, `gpus`, `resources` or `logged` request, as far as the program has functions."""
    if request["do"] == "check":
        return [program.check(args) if hasattr(program, "check") else None for args in request["commands"]]
    if request["do"] == "compare":
        try:
            return getattr(program, "differing_options", differing_values)(request["args"], request["recorded"])
        except (Exception, SystemExit) as error:  # the run will fail in the same way
            return [_reason(error, "")]
    if request["do"] == "gpus":  # a program without PyTorch may use its devices in another way
        return sys.modules["torch"].cuda.device_count() if "torch" in sys.modules else None
    if request["do"] == "resources":
        return _used_resources()
    return _logged(program, request["args"]) if hasattr(program, "logged") else None


def _used_resources() -> Json:
    if "torch" not in sys.modules:
        return {"problem": "the program does not use PyTorch, and only its runs are measured"}
    try:
        from genlab.resources import used_resources  # imports PyTorch

        return used_resources()
    except Exception as error:
        return {"problem": describe_error(error)}


def _logged(program: ModuleType, args: list[str]) -> Json:
    """Asks the program which metrics it logs. What it prints would be lost, so that its last line is the reason."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return program.logged(args)
    except (Exception, SystemExit) as error:
        lines = said.getvalue().split("\n")
        return {"error": _reason(error, next((line.strip() for line in reversed(lines) if line.strip()), ""))}


def _run(program: ModuleType, args: list[str], report: Callable[[Any], bool], log: str) -> Outcome:
    try:
        result = program.main(args, report)
    except (
        Exception,
        SystemExit,
        KeyboardInterrupt,
    ) as error:  # W&B raises KeyboardInterrupt for a run that is stopped on its website
        if type(error).__name__ == "SIGTERMException":
            return Outcome("stopped")
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return Outcome("stopped", error="the disk is full")
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        return Outcome("failed", error=_reason(error, f"see {log}"), memory_full=_says_memory_is_full(error))
    return Outcome("finished", result.metrics, str(result.folder))


def _says_memory_is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is CUDA's that the memory of the GPU is full."""
    while error is not None and not is_full_gpu_memory(error):
        error = error.__cause__ or error.__context__
    return error is not None


def _listen(inbox: IO[str], busy: threading.Event) -> "SimpleQueue[Json | None]":
    """Returns a queue of requests; None is put into it when the parent is gone, which also stops the current run."""
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
    """Imports a Python file under the name of its stem."""
    path = path.resolve()
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.argv[0] = str(path)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "main", None)):
        raise UsageError(
            "it has no function main(args, report), which a sweep calls for each run; add it, or give another program "
            "in the sweep"
        )
    return module


@contextlib.contextmanager
def _redirect_output(log: str | None) -> Iterator[None]:
    """Appends all output of this process, including that of C code, to a file."""
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


def _reset_wandb(previous: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Makes W&B, which reads its variables once per process, read them again if they differ from the previous ones."""
    own = {name: value for name, value in variables.items() if name.startswith("WANDB_")}
    if own != previous and "wandb" in sys.modules:
        sys.modules["wandb"].teardown()
    return own


def _reason(error: BaseException, details: str) -> str:
    """Describes an error in one line, with the details of why a program exited."""
    if isinstance(error, SystemExit):
        return "; ".join(filter(None, [f"it exited with status {error.code}", details.removeprefix("error: ")]))
    return describe_error(error)
