"""The progress of a sweep: progress bars in a terminal, elsewhere one line for each run that ends."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from genlab.sweep.definition import Definition
from genlab.sweep.queue import Job, SweepStatus
from genlab.sweep.worker import Json, Outcome
from genlab.words import counted


class Display:
    """Shows the progress of a sweep over all its processes: runs finished, failed and running, best run, time left.

    Args:
        sweep: The definition of the sweep.
        console: The console to print to.
    """

    def __init__(self, sweep: Definition, console: Console | None = None) -> None:
        self.sweep = sweep
        self.console = console or Console(highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bars = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self._sweep_bar: TaskID | None = None
        self._run_bars: dict[int, TaskID] = {}
        self._status: SweepStatus | None = None
        self._elsewhere = ""
        self._began, self._done_before = time.monotonic(), 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def begin(self, status: SweepStatus) -> None:
        self._began, self._done_before = time.monotonic(), status.finished + status.failed
        if self._done_before:
            self.print(f"{self.sweep.name}: {counted(status.finished, 'run')} finished before, {status.failed} failed")
        self._sweep_bar = self._bars.add_task(self.sweep.name, total=status.total, note="")
        self._update(status)

    def show(self, status: SweepStatus, running: str) -> None:
        """Shows the status of a sweep whose runs are executed elsewhere, and what is running there."""
        self._elsewhere = running
        self._update(status)

    def run_started(self, job: Job) -> None:
        self._run_bars[job.trial] = self._bars.add_task(f"  {Text(job.run).markup}", total=None, note="starting")
        self._update()

    def run_progressed(self, job: Job, progress: Json) -> None:
        value = progress["metrics"].get(self.sweep.metric)
        shown = {self.sweep.metric: value} if value is not None else progress["metrics"]
        note = "epochs  " + "  ".join(f"{name} {number:.4g}" for name, number in list(shown.items())[:2])
        total = progress["epochs"] if progress["epochs"] > 0 else None
        self._bars.update(self._run_bars[job.trial], completed=progress["epoch"], total=total, note=note)

    def run_ended(self, job: Job, outcome: Outcome, kept: bool, value: float | None, status: SweepStatus) -> None:
        self._remove_bar(job)
        self._update(status)
        line = f"[{self._count(status)}] {job.run}"
        measured = "" if value is None else f"  {self.sweep.metric} {value:.4g}"
        if outcome.state == "failed":
            self.print(f"{line}  failed: {outcome.error}", "red")
        elif kept:
            self.print(f"{line}{measured}  finished before, kept", "dim")
        else:
            early = "  ended early" if outcome.early else ""
            self.print(f"{line}{measured}{early}  {outcome.seconds:.1f} s  {self._time_left(status)}".rstrip())

    def run_requeued(self, job: Job, outcome: Outcome, status: SweepStatus) -> None:
        self._remove_bar(job)
        self._update(status)
        reason = "stopped" if outcome.state == "stopped" else outcome.error
        self.print(f"{job.run}: {reason}; the run is back in the queue", "yellow")

    def print(self, message: str, style: str | None = None) -> None:
        self.console.print(message, style=style, markup=False, soft_wrap=True)

    def _remove_bar(self, job: Job) -> None:
        if (task := self._run_bars.pop(job.trial, None)) is not None:
            self._bars.remove_task(task)

    def _update(self, status: SweepStatus | None = None) -> None:
        status = self._status = status or self._status
        if self._sweep_bar is None or status is None:
            return
        best = "" if status.best is None else f"  best {self.sweep.metric} {status.best:.4g} ({status.best_run})"
        failed = f", {status.failed} failed" if status.failed else ""
        running = self._elsewhere or f"{len(self._run_bars)} running here"
        note = Text(f"{running}{failed}{best}  {self._time_left(status)}").markup
        self._bars.update(
            self._sweep_bar, completed=status.finished + status.failed, total=status.total, note=note.rstrip()
        )

    def _count(self, status: SweepStatus) -> str:
        done = status.finished + status.failed
        return f"{done}/{status.total}" if status.total is not None else f"{done}"

    def _time_left(self, status: SweepStatus) -> str:
        done = status.finished + status.failed
        if done <= self._done_before or status.total is None or done >= status.total:
            return ""
        seconds = (time.monotonic() - self._began) / (done - self._done_before) * (status.total - done)
        return f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {seconds:.0f} s left"
