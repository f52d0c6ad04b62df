"""What a sweep shows while it runs: bars on a terminal, elsewhere a line for each run that ends."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from genlab.sweep.definition import Definition
from genlab.sweep.queue import Standing, Ticket
from genlab.sweep.worker import Json, Outcome


class Display:
    """A sweep's progress, by all who work on it: finished, failed, running, best so far, time left.

    Args:
        sweep: whose name, metric and goal are shown.
        console: where to.
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
        self._whole: TaskID | None = None
        self._runs: dict[int, TaskID] = {}
        self._standing: Standing | None = None
        self._began, self._done_before = time.monotonic(), 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def begin(self, standing: Standing) -> None:
        self._began, self._done_before = time.monotonic(), standing.finished + standing.failed
        if self._done_before:
            self.say(f"{self.sweep.name}: {standing.finished} runs finished before, {standing.failed} failed")
        self._whole = self._bars.add_task(self.sweep.name, total=standing.total, note="")
        self._update(standing)

    def started(self, ticket: Ticket) -> None:
        self._runs[ticket.trial] = self._bars.add_task(f"  {Text(ticket.run).markup}", total=None, note="starting")
        self._update()

    def progressed(self, ticket: Ticket, progress: Json) -> None:
        value = progress["metrics"].get(self.sweep.metric)
        shown = {self.sweep.metric: value} if value is not None else progress["metrics"]
        note = "epochs  " + "  ".join(f"{name} {number:.4g}" for name, number in list(shown.items())[:2])
        total = progress["epochs"] if progress["epochs"] > 0 else None
        self._bars.update(self._runs[ticket.trial], completed=progress["epoch"], total=total, note=note)

    def ended(self, ticket: Ticket, outcome: Outcome, kept: bool, value: float | None, standing: Standing) -> None:
        self._forget(ticket)
        self._update(standing)
        line = f"[{self._count(standing)}] {ticket.run}"
        measured = "" if value is None else f"  {self.sweep.metric} {value:.4g}"
        if outcome.state == "failed":
            self.say(f"{line}  failed: {outcome.error}", "red")
        elif kept:
            self.say(f"{line}{measured}  finished before, kept", "dim")
        else:
            early = "  ended early" if outcome.early else ""
            self.say(f"{line}{measured}{early}  {outcome.seconds:.1f} s  {self._time_left(standing)}".rstrip())

    def gave_back(self, ticket: Ticket, outcome: Outcome, standing: Standing) -> None:
        self._forget(ticket)
        self._update(standing)
        why = f"{outcome.error}; it" if outcome.state == "died" else "stopped; it"
        self.say(f"{ticket.run}: {why} is back in the queue", "yellow")

    def say(self, message: str, style: str | None = None) -> None:
        self.console.print(message, style=style, markup=False, soft_wrap=True)

    def _forget(self, ticket: Ticket) -> None:
        if (task := self._runs.pop(ticket.trial, None)) is not None:
            self._bars.remove_task(task)

    def _update(self, standing: Standing | None = None) -> None:
        standing = self._standing = standing or self._standing
        if self._whole is None or standing is None:
            return
        best = "" if standing.best is None else f"  best {self.sweep.metric} {standing.best:.4g} ({standing.best_run})"
        failed = f", {standing.failed} failed" if standing.failed else ""
        note = Text(f"{len(self._runs)} running here{failed}{best}  {self._time_left(standing)}").markup
        self._bars.update(
            self._whole, completed=standing.finished + standing.failed, total=standing.total, note=note.rstrip()
        )

    def _count(self, standing: Standing) -> str:
        done = standing.finished + standing.failed
        return f"{done}/{standing.total}" if standing.total is not None else f"{done}"

    def _time_left(self, standing: Standing) -> str:
        done = standing.finished + standing.failed
        if done <= self._done_before or standing.total is None or done >= standing.total:
            return ""
        seconds = (time.monotonic() - self._began) / (done - self._done_before) * (standing.total - done)
        return f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {seconds:.0f} s left"
