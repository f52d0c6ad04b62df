"""Processes that read image files. They import no torch, so that they start in a fraction of a second."""

import os
import pickle
import queue
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from datamodules.files import DataError

SECONDS_TO_END = 5.0
_PROGRAM = """
import sys
package, sys.path[:] = sys.argv[1], sys.argv[2:]
import types
sys.modules["datamodules"] = types.ModuleType("datamodules")  # without its imports
sys.modules["datamodules"].__path__ = [package]
from datamodules.reading_processes import serve
serve()
"""

Job = tuple[Path, tuple[int, int], bool]
"""A file, the height and width that it gets, and whether it has two images side by side."""


class ReadingProcesses:
    """Processes that read image files for the threads of this one, which share none of its state.

    They are programs of their own rather than forks, which a process with CUDA or with threads must not make, and than
    spawned ones, which would import the main program and torch.

    Args:
        number: Number of processes.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:  # ends those that have started if another one cannot
            for _ in range(self.number):
                process = _Process()
                stack.callback(process.end)
                self._idle.put(process)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, reader: Any, jobs: list[Job]) -> tuple[list[Any], dict[str, str]]:
        """Returns the results of `reader.attempt` for each job, and what the reader would have said.

        Raises:
            DataError: The process has ended, such as for want of memory.
        """
        process = self._idle.get()
        try:
            return process.read(reader, jobs)
        finally:
            self._idle.put(process)


class _Process:
    def __init__(self) -> None:
        arguments = [sys.executable, "-c", _PROGRAM, str(Path(__file__).parent), *filter(None, sys.path)]
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(self, reader: Any, jobs: list[Job]) -> tuple[list[Any], dict[str, str]]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            pickle.dump((reader, jobs), self._process.stdin)
            self._process.stdin.flush()
            found, said = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(SECONDS_TO_END)
            self.end()
            status = self._process.returncode
            reason = f"by signal {-status}" if status < 0 else f"with status {status}"
            raise DataError(
                f"a process that reads images has ended {reason}, at one of the {len(jobs)} files from {jobs[0][0]} to"
                f" {jobs[-1][0]}; look for one that is damaged or very large"
            ) from None
        return found, said

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def serve() -> None:
    """Reads files for the process that has started this one, until that closes its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for that process, which then ends this one
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else that is printed may get between the answers
    with suppress(EOFError, BrokenPipeError):
        while True:
            reader, jobs = pickle.load(sys.stdin.buffer)
            reader.is_quiet = True
            pickle.dump(([reader.attempt(*job) for job in jobs], reader.said), answers)
            answers.flush()
    os._exit(0)  # what could not be sent is not sent at the end either
