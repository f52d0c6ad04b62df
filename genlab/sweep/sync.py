"""Sends the runs of an offline sweep to W&B, each of them once, even after an interruption.

W&B's own client sends the files, and writes a marker file beside each one that has been sent.
"""

import contextlib
import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from genlab.packaged import sweep_command
from genlab.runs.errors import UsageError
from genlab.runs.folder import is_running, read_summary
from genlab.runs.wandb_access import require_wandb
from genlab.words import counted

BATCH_RUNS = 50
"""The number of runs that one call of the client sends."""
POLL_SECONDS = 0.2
HEADER_BYTES = 7
"""The size of a file of W&B's that contains only its header."""


@dataclass
class SyncResult:
    """The names of the runs, by what happened to them.

    Args:
        sent: Runs that were sent now.
        sent_before: Runs that had been sent earlier.
        failed: Runs that could not be sent, with the error of W&B's client.
        running: Runs that are still running and were not sent.
        empty: Runs that were killed before W&B's client wrote any data.
    """

    sent: list[str] = field(default_factory=list)
    sent_before: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


def sync(folder: Path, project: str | None = None, entity: str | None = None) -> SyncResult:
    """Sends all runs of an experiment that W&B does not have yet. The parts of a resumed run are sent in order.

    Args:
        folder: The folder of the experiment, runs/<sweep>.
        project: The W&B project. By default the one that is stored in the runs.
        entity: The W&B entity. By default that of the API key.

    Raises:
        UsageError: The folder has no offline runs, W&B cannot be used, or another sync of the folder is running.
    """
    console = rich.console.Console(highlight=False, markup=False, soft_wrap=True)
    offline = {run: files for run in sorted(folder.glob("[!.]*/")) if (files := _offline_files(run))}
    if not offline:
        raise UsageError(
            f"{folder} contains no offline runs of W&B; `{sweep_command('run')}` creates them, unless WANDB_MODE is"
            " online or disabled"
        )
    with _lock(folder) as lock:
        result, unsent = _classify(offline)
        if unsent:
            require_wandb(without_server="; nothing was sent, try again later", cannot_be="reached")
            options = [*_option("project", project), *_option("entity", entity)]
            _Sender(unsent, options, lock, result).send(console)
    _print_result(folder, result, console)
    return result


def _classify(offline: dict[Path, list[Path]]) -> tuple[SyncResult, dict[Path, list[Path]]]:
    """Returns the runs that need not be sent, and the unsent files of those that must be sent."""
    result, unsent = SyncResult(), {}
    for run, files in offline.items():
        left = [file for file in files if not _is_sent(file)]
        filled = [file for file in left if file.stat().st_size > HEADER_BYTES]
        if left and is_running(read_summary(run) or {}):
            result.running.append(run.name)
        elif filled:
            unsent[run] = filled
        elif len(left) == len(files):
            result.empty.append(run.name)
        else:
            result.sent_before.append(run.name)
    return result, unsent


class _Sender:
    """Calls W&B's client for batches of runs. The client sends the parts of one run in the order of their start.

    Args:
        unsent: The unsent files of each run folder.
        options: Options of `wandb sync`.
        lock: The locked file of the folder.
        result: Receives the names of the runs.
    """

    def __init__(
        self, unsent: dict[Path, list[Path]], options: Sequence[str], lock: IO[str], result: SyncResult
    ) -> None:
        self.unsent = unsent
        self.options = options
        self.lock = lock
        self.result = result

    def send(self, console: rich.console.Console) -> None:
        columns = (TextColumn("sending to W&B"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("", total=len(self.unsent))
            left = list(self.unsent)
            while left:
                batch, left = left[:BATCH_RUNS], left[BATCH_RUNS:]
                output = self._call(batch, lambda: progress.update(bar, completed=sum(map(self._is_sent, self.unsent))))
                left += self._count(batch, output)

    def _call(self, batch: list[Path], on_poll: Callable[[], None]) -> str:
        """Calls the client once, and `on_poll` while it runs; returns its output."""
        files = [str(file) for run in batch for file in self.unsent[run]]
        environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
        with tempfile.TemporaryFile("w+") as output:
            client = subprocess.Popen(
                [sys.executable, "-m", "wandb", "sync", *self.options, *files],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[self.lock.fileno()],  # so that the client holds the lock even if this process is killed
            )
            try:
                while client.poll() is None:
                    time.sleep(POLL_SECONDS)
                    on_poll()
            finally:
                client.terminate()
                client.wait()
            output.seek(0)
            return output.read()

    def _count(self, batch: list[Path], output: str) -> list[Path]:
        """Counts the runs; returns those to try again, because the client sends nothing if it cannot read one file."""
        unreadable = {Path(file).resolve(): why for file, why in re.findall(r'Failed to [^"]*"(.*?)": (.*)', output)}
        owners = {file.parent.resolve(): run for run in batch for file in self.unsent[run]}
        # The client names a file or its folder.
        named = {owners.get(path, owners.get(path.parent)): why for path, why in unreadable.items()}
        reasons = {run: why for run, why in named.items() if run is not None}
        again = []
        for run in batch:
            if self._is_sent(run):
                self.result.sent.append(run.name)
            elif run in reasons:
                self.result.failed[run.name] = f"W&B cannot read its files ({reasons[run]})"
            elif reasons:
                again.append(run)
            else:
                self.result.failed[run.name] = _last_error(output)
        return again

    def _is_sent(self, run: Path) -> bool:
        return all(map(_is_sent, self.unsent[run]))


def _print_result(folder: Path, result: SyncResult, console: rich.console.Console) -> None:
    line = f"{folder}: {counted(len(result.sent), 'run')} sent to W&B, {len(result.sent_before)} sent before"
    console.print(line + (f", {len(result.failed)} not sent" if result.failed else ""))
    for name, reason in result.failed.items():
        console.print(f"  {name} was not sent: {reason}", style="red")
    if result.failed:
        console.print("give the same command again to send only the missing runs")
    for name in result.empty:
        console.print(f"  {name} was killed before it wrote any data for W&B; its other data are in its run folder")
    for name in result.running:
        console.print(f"  {name} is still running; give the same command again later to send it", style="yellow")


def _offline_files(run: Path) -> list[Path]:
    """Returns the files of a run, in its folder and where WANDB_DIR was when it ran, in the order of their start."""
    summary = read_summary(run) or {}
    found = {*run.glob("wandb/offline-run-*/run-*.wandb")}
    if "wandb_dir" in summary and (elsewhere := Path(summary["wandb_dir"])) != run.resolve():
        found |= {*elsewhere.glob(f"wandb/offline-run-*-{summary.get('wandb_id')}/run-*.wandb")}
    return sorted(found, key=lambda file: file.parent.name)


def _is_sent(file: Path) -> bool:
    return file.with_name(f"{file.name}.synced").exists()


def _last_error(output: str) -> str:
    """Returns the last error in the output of W&B's client, or else its last line."""
    lines = [line.removeprefix("wandb: ").strip() for line in output.splitlines()]
    errors = [line for line in lines if "error" in line.lower()]
    return next((line for line in reversed(errors or lines) if line), "W&B's client printed nothing")


def _option(name: str, value: str | None) -> list[str]:
    return [] if value is None else [f"--{name}", value]


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[IO[str]]:
    """Locks a folder. A process that inherits the file holds the lock too."""
    with (folder / ".sync.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another sync of {folder} is running; wait for its end") from None
        yield lock
