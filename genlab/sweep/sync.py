"""Brings a sweep that ran offline up to W&B: every run once, also after an interruption.

The real client sends the files, and leaves a mark beside each that has arrived.
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

from genlab.runs.errors import UsageError
from genlab.runs.folder import is_going_on, read_summary
from genlab.runs.wandb_access import need_wandb

AT_A_TIME = 50
"""Runs that one call of the client is given."""
POLL_SECONDS = 0.2
EMPTY_BYTES = 7
"""A file of W&B's that holds no more than its header."""


@dataclass
class SyncTally:
    """The names of runs.

    Args:
        sent: now.
        before: at an earlier time.
        failed: with what W&B's client said.
        going_on: left alone for the moment.
        empty: killed before the client had written anything.
    """

    sent: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    going_on: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


def sync(folder: Path, project: str | None = None, entity: str | None = None) -> SyncTally:
    """Sends all of an experiment's runs that W&B has not yet, the parts of a resumed run in their order.

    Args:
        folder: runs/<sweep>.
        project: instead of the one that the runs name.
        entity: instead of the default one.

    Raises:
        UsageError: there is nothing to send, nobody to send it to, or another sync is at work.
    """
    console = rich.console.Console(highlight=False, markup=False, soft_wrap=True)
    offline = {run: files for run in sorted(folder.glob("[!.]*/")) if (files := _offline_files(run))}
    if not offline:
        raise UsageError(f"{folder} holds no offline runs of W&B; `sweep.py run` makes them where no key is configured")
    with _alone(folder) as lock:
        tally, unsent = _sort(offline)
        if unsent:
            need_wandb(away="; nothing was sent, try again later", cannot="reached")
            options = [*_option("project", project), *_option("entity", entity)]
            _Sender(unsent, options, lock, tally).send(console)
    _tell(folder, tally, console)
    return tally


def _sort(offline: dict[Path, list[Path]]) -> tuple[SyncTally, dict[Path, list[Path]]]:
    """What there is to tell before anything is sent, and the runs that are to be."""
    tally, unsent = SyncTally(), {}
    for run, files in offline.items():
        left = [file for file in files if not _is_sent(file)]
        filled = [file for file in left if file.stat().st_size > EMPTY_BYTES]
        if left and is_going_on(read_summary(run) or {}):
            tally.going_on.append(run.name)
        elif filled:
            unsent[run] = filled
        elif len(left) == len(files):
            tally.empty.append(run.name)
        else:
            tally.before.append(run.name)
    return tally, unsent


class _Sender:
    """Gives W&B's client some runs at a time; it sends the parts of one run one after the other, by their start."""

    def __init__(self, unsent: dict[Path, list[Path]], options: Sequence[str], lock: IO[str], tally: SyncTally) -> None:
        self.unsent = unsent
        self.options = options
        self.lock = lock
        self.tally = tally

    def send(self, console: rich.console.Console) -> None:
        columns = (TextColumn("sending to W&B"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("", total=len(self.unsent))
            left = list(self.unsent)
            while left:
                batch, left = left[:AT_A_TIME], left[AT_A_TIME:]
                words = self._call(batch, lambda: progress.update(bar, completed=sum(map(self._arrived, self.unsent))))
                left += self._judge(batch, words)

    def _call(self, batch: list[Path], wait: Callable[[], None]) -> str:
        """One call of the client; returns what it says."""
        files = [str(file) for run in batch for file in self.unsent[run]]
        environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # this process's
        with tempfile.TemporaryFile("w+") as said:
            client = subprocess.Popen(
                [sys.executable, "-m", "wandb", "sync", *self.options, *files],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                pass_fds=[self.lock.fileno()],  # held as long as anybody sends, also when this process is killed
            )
            try:
                while client.poll() is None:
                    time.sleep(POLL_SECONDS)
                    wait()
            finally:
                client.terminate()
                client.wait()
            said.seek(0)
            return said.read()

    def _judge(self, batch: list[Path], words: str) -> list[Path]:
        """Counts the runs; returns those to try again, because the client sends nothing if it cannot read one file."""
        blamed = {Path(place).resolve(): reason for place, reason in re.findall(r'Failed to [^"]*"(.*?)": (.*)', words)}
        reasons = {run: why for run in batch for place, why in blamed.items() if run.resolve() in place.parents}
        again = []
        for run in batch:
            if self._arrived(run):
                self.tally.sent.append(run.name)
            elif run in reasons:
                self.tally.failed[run.name] = f"W&B cannot read its files ({reasons[run]})"
            elif reasons:
                again.append(run)
            else:
                self.tally.failed[run.name] = _last_words(words)
        return again

    def _arrived(self, run: Path) -> bool:
        return all(map(_is_sent, self.unsent[run]))


def _tell(folder: Path, tally: SyncTally, console: rich.console.Console) -> None:
    said = f"{folder}: {len(tally.sent)} runs sent to W&B, {len(tally.before)} were there before"
    console.print(said + (f", {len(tally.failed)} not sent" if tally.failed else ""))
    for name, reason in tally.failed.items():
        console.print(f"  {name} was not sent: {reason}", style="red")
    if tally.failed:
        console.print("the same command tries again, and sends only what is missing")
    for name in tally.empty:
        console.print(f"  {name} left nothing for W&B, it was killed too soon; what it has is in its folder")
    for name in tally.going_on:
        console.print(f"  {name} is still going on; the same command sends it later", style="yellow")


def _offline_files(run: Path) -> list[Path]:
    return sorted(run.glob("wandb/offline-run-*/run-*.wandb"))


def _is_sent(file: Path) -> bool:
    return file.with_name(f"{file.name}.synced").exists()


def _last_words(said: str) -> str:
    """The client's last complaint, or else its last line."""
    lines = [line.removeprefix("wandb: ").strip() for line in said.splitlines()]
    complaints = [line for line in lines if "error" in line.lower()]
    return next((line for line in reversed(complaints or lines) if line), "W&B's client said nothing")


def _option(name: str, value: str | None) -> list[str]:
    return [] if value is None else [f"--{name}", value]


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[IO[str]]:
    """Holds the folder's lock, which a process that inherits the file holds as well."""
    with (folder / ".sync.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another sync of {folder} is at work; wait for its end") from None
        yield lock
