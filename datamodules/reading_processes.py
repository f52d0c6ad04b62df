"""Processes that read image files. They import no torch, so that they start in a fraction of a second."""

import os
import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np

from datamodules.errors import DataError
from datamodules.mapped_files import Place, place_in_file

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

Target = Place | tuple[int, ...]
"""Where the images of a chunk are written, or the shape of those that are sent."""


class ReadingProcesses:
    """Processes that read image files for the threads of this one, which share none of its state.

    They are programs of their own rather than forks, which a process with CUDA or with threads must not make, and than
    spawned ones, which would import the main program and torch.

    Images of a mapped file are written there by the processes; others are sent.

    Args:
        reader: An `ImageReader`, whose `read_chunk` the processes call.
        number: Number of processes.
    """

    def __init__(self, reader: Any, number: int) -> None:
        self.reader = reader
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

    def read(self, paths: Sequence[Path], images: Sequence[np.ndarray]) -> list[str | None]:
        """Does what `reader.read_chunk` does, in the next process that is idle.

        Raises:
            DataError: The process has ended, such as for want of memory.
        """
        process = self._idle.get()
        try:
            reasons, said = process.read(self.reader, paths, images)
        finally:
            self._idle.put(process)
        for kind, line in said.items():
            self.reader.say(kind, line)
        return reasons


class _Process:
    def __init__(self) -> None:
        # Without -S, Python would look for the folders of packages, which it gets here.
        arguments = [sys.executable, "-S", "-c", _PROGRAM, str(Path(__file__).parent), *filter(None, sys.path)]
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(
        self, reader: Any, paths: Sequence[Path], images: Sequence[np.ndarray]
    ) -> tuple[list[str | None], dict[str, str]]:
        """Returns what `reader.read_chunk` does, and what the reader would have said."""
        assert self._process.stdin is not None and self._process.stdout is not None
        targets: list[Target] = [place_in_file(of) or of.shape for of in images]
        try:
            pickle.dump((reader, paths, targets), self._process.stdin)
            self._process.stdin.flush()
            reasons, sent, said = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(SECONDS_TO_END)
            self.end()
            status = self._process.returncode
            reason = f"by signal {-status}" if status < 0 else f"with status {status}"
            raise DataError(
                f"a process that reads images has ended {reason}, between {paths[0]} and {paths[-1]}"
                f" (number of files: {len(paths)}); look for one that is damaged or very large"
            ) from None
        for of, made in zip(images, sent, strict=True):
            if made is not None:
                of[:] = made
        return reasons, said

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
            reader, paths, targets = pickle.load(sys.stdin.buffer)
            reader.is_quiet = True
            images = [
                target.opened() if isinstance(target, Place) else np.zeros(target, np.uint8) for target in targets
            ]
            reasons = reader.read_chunk(paths, images)
            sent = [None if isinstance(target, Place) else of for target, of in zip(targets, images, strict=True)]
            pickle.dump((reasons, sent, reader.said), answers)
            answers.flush()
    os._exit(0)  # what could not be sent is not sent at the end either
