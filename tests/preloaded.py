"""A `python` with preloaded libraries, for tests that start processes.

Importing torch, Lightning and similar libraries, and unloading them, takes a process five to fifteen seconds, and the
tests start two hundred processes. `python()` creates a program that sends its arguments, environment and standard
streams to a server process, which has imported the libraries once. The server forks, and the child does what `python
ARGUMENTS` would do. Signals to the program, including SIGKILL, are passed to the child, and the program exits with the
child's status. Processes that the child starts by its sys.executable are created in the same way. Each child imports
the project's own modules anew.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import pickle
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
PLAIN_PYTHON = sys.executable
"""The normal Python, without preloaded libraries."""
LIBRARIES = ("lightning.pytorch.cli", "torchvision", "torchmetrics.image", "optuna", "pandas", "plotly.io", "pydantic")
"""Without wandb, which creates a folder when it is imported and removes it at exit."""
POLL_SECONDS = 0.02
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@functools.cache
def python() -> str:
    """Starts the server process; returns the path of a program to use as `python`."""
    folder = tempfile.TemporaryDirectory(prefix="preloaded")
    address, program = Path(folder.name) / "socket", Path(folder.name) / "python"
    program.write_text(f'#!/bin/sh\nexec "{PLAIN_PYTHON}" -I -S "{__file__}" relay "{address}" "$@"\n')
    program.chmod(0o700)
    server = subprocess.Popen([PLAIN_PYTHON, __file__, "serve", address, program], stdin=subprocess.PIPE)

    @atexit.register
    def stop() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        folder.cleanup()

    while not address.exists():
        assert server.poll() is None, "the server process did not start"
        time.sleep(POLL_SECONDS)
    return str(program)


def two_processes(work: Callable[..., None], *args: object) -> None:
    """Calls `work(rank, *args)`, a function of a module, in two processes; if one fails, the other one is killed."""
    call = "import pickle, sys; work, rank, args = pickle.loads(bytes.fromhex(sys.argv[1])); work(rank, *args)"
    requests = [pickle.dumps((work, rank, args)).hex() for rank in range(2)]
    processes = [subprocess.Popen([python(), "-c", call, request], cwd=ROOT) for request in requests]
    try:
        while None in (codes := [process.poll() for process in processes]) and not any(codes):
            time.sleep(POLL_SECONDS)
    finally:
        for process in processes:
            process.kill()
    assert codes == [0, 0]


# The program that the caller starts and waits for.


def relay(address: str, args: list[str]) -> NoReturn:
    """Lets the server run a command, and exits with its status."""
    if not args or (args[0].startswith("-") and args[0] not in ("-c", "-m")):
        os.execv(PLAIN_PYTHON, [PLAIN_PYTHON, *args])
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    for number in FORWARDED:
        signal.signal(number, lambda number, frame: connection.send(bytes([number])))
    request = {"args": args, "environment": dict(os.environ), "folder": os.getcwd()}
    streams = [stream for stream in range(3) if _is_open(stream)]
    socket.send_fds(connection, [json.dumps([streams, request]).encode() + b"\n"], streams)
    status = b""
    while not status.endswith(b"\n"):
        if not (more := connection.recv(16)):
            sys.exit("the server process has ended")
        status += more
    if (code := int(status)) < 0:
        if -code in FORWARDED:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _is_open(stream: int) -> bool:
    try:
        os.fstat(stream)
    except OSError:
        return False
    return True


# The server process, and the processes that it forks: for each command a monitor, and the child that runs it.


def serve(address: str) -> dict[str, Any]:
    """Forks for each command, until stdin is closed; returns the command in the child."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen(64)
    os.rename(f"{address}.new", address)
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # a collection in a child would copy every page
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # pytest handles Ctrl-C
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that no monitor stays as a zombie
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if listener not in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return monitor(connection)
        connection.close()


def monitor(connection: socket.socket) -> dict[str, Any]:
    """Forks the child, in which it returns; the parent passes signals to the child, and its exit status back."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, received = b"", []
    while not text.endswith(b"\n"):
        part, fds, _, _ = socket.recv_fds(connection, 1 << 16, 3)
        text, received = text + part, received + fds
    streams, request = json.loads(text)
    child = os.fork()
    if child == 0:
        connection.close()
        os.setsid()
        _take_streams(dict(zip(streams, received, strict=True)))
        return request
    for fd in (0, 1, 2, *received):
        os.close(fd)
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if select.select([connection], [], [], POLL_SECONDS)[0]:
            for number in connection.recv(16) or bytes([signal.SIGKILL]):
                os.kill(child, number)
    status = os.waitstatus_to_exitcode(done[1])
    try:
        connection.send(f"{status}\n".encode())
    finally:
        os._exit(0)


def _take_streams(given: dict[int, int]) -> None:
    for stream in range(3):
        os.dup2(given[stream], stream) if stream in given else os.close(stream)
    for fd in given.values():
        os.close(fd)
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False) if 0 in given else None
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False) if 1 in given else None
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False) if 2 in given else None


def run(args: list[str], environment: dict[str, str], folder: str) -> None:
    """Does what `python ARGS` does before it exits."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    rank_zero = sys.modules["lightning.fabric.utilities.rank_zero"]  # it reads the environment at import time
    rank_zero.rank_zero_only.rank = rank_zero._get_rank() or 0
    signal.signal(signal.SIGINT, signal.default_int_handler)
    paths = environment.get("PYTHONPATH", "").split(os.pathsep)
    first = folder if args[0] in ("-c", "-m") else str(Path(args[0]).resolve().parent)
    sys.path[:1] = [first, *filter(None, paths)]
    if args[0] == "-c":
        sys.argv = ["-c", *args[2:]]
        exec(compile(args[1], "<string>", "exec"), sys.modules["__main__"].__dict__)
    elif args[0] == "-m":
        sys.argv = args[1:]
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = args
        runpy.run_path(args[0], run_name="__main__")


def end(error: BaseException | None) -> NoReturn:
    """Exits like Python, but without the seconds that it needs to unload all modules."""
    code = 0
    if isinstance(error, SystemExit) and isinstance(error.code, int | None):
        code = error.code or 0
    elif isinstance(error, SystemExit):
        print(error.code, file=sys.stderr)
        code = 1
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "relay":
        relay(sys.argv[2], sys.argv[3:])
    command = serve(sys.argv[2])
    sys.executable = sys.argv[3]
    try:
        run(**command)
    except BaseException as error:
        end(error)
    end(None)
