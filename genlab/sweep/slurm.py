"""Sweeps on a Slurm cluster: an array of jobs, each of which is a whole `sweep.py run` or `sweep.py agent`."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy.engine import URL

from genlab.runs.errors import UsageError
from genlab.sweep.definition import Definition
from genlab.sweep.engine import Engine, Options, SweepResult, collect_signals
from genlab.sweep.queue import Queue
from genlab.sweep.slurm_jobs import Array, parse_options, require_slurm, submit
from genlab.sweep.worker import Outcome
from genlab.words import counted

WATCH_SECONDS = 2.0
"""How often the queue is read."""
JOBS_SECONDS = 15.0
"""How often Slurm is asked for the states of the jobs."""


def run_on_slurm(
    sweep: Definition, options: Options, slurm: str, task: Sequence[str], detach: bool = False
) -> SweepResult:
    """Executes the runs of a sweep in jobs of a Slurm cluster.

    Jobs of an earlier call that still wait or run are counted, and only those that are missing are submitted. Ctrl-C
    ends the call, and not the jobs.

    Args:
        sweep: The definition of the sweep.
        options: How to run it; `workers` is the number of jobs.
        slurm: Options of sbatch.
        task: Options of `sweep.py run` in each job, without those that follow from `options`.
        detach: Whether to return when the jobs are submitted.

    Raises:
        UsageError: The definition does not fit the program or the queue, or Slurm does not accept the jobs.
    """
    accepted = parse_options(slurm)
    require_slurm()
    workers = options.workers if isinstance(options.workers, int) else 1
    engine = Engine(sweep, replace(options, workers=1, shared_queue=True))
    try:
        queue = engine.open_queue()
    finally:
        engine.fleet.close()
    array = Array(engine.folder / "slurm")
    missing = min(workers - len(array.states()), queue.open_runs())
    if missing > 0:
        command = [*command_line("run"), *task, f"--storage={_text(engine.address())}", "--no-report", "--workers=1"]
        array.add(submit(accepted, command, int(missing), array.folder, sweep.name))
    jobs = counted(len(array.states()), "job")
    print(f"--slurm: {jobs} in {', '.join(array.ids)}; their output is in {array.folder}")
    if detach:
        return SweepResult(engine.folder, goes_on=True)
    return Watcher(engine, queue, array).watch()


def submit_agents(path: str, slurm: str, workers: int, task: Sequence[str], root: str) -> str:
    """Submits an array of agents of a W&B sweep; returns a line about it.

    Raises:
        UsageError: Slurm does not accept the jobs.
    """
    accepted = parse_options(slurm)
    require_slurm()
    folder = Path(root) / "slurm" / path.replace("/", "_")
    array = submit(accepted, [*command_line("agent"), path, *task], workers, folder, path.rpartition("/")[2])
    return f"--slurm: {counted(workers, 'agent')} in job array {array}; their output is in {folder}"


def command_line(verb: str) -> list[str]:
    """Returns the command of `sweep.py VERB` with this Python."""
    return [sys.executable, "-m", "genlab", "sweep", verb]


class Watcher:
    """Shows the progress of a sweep that other processes execute, from its queue.

    Args:
        engine: Its display and its folder.
        queue: The queue.
        array: The jobs.
    """

    def __init__(self, engine: Engine, queue: Queue, array: Array) -> None:
        self._display, self._queue, self._array = engine.display, queue, array
        self.result = SweepResult(engine.folder)
        self._known = {ended.job.number for ended in queue.ended()}
        self._asked = time.monotonic()

    def watch(self) -> SweepResult:
        """Shows runs until none is left.

        Raises:
            UsageError: All jobs have ended, and runs are left.
        """
        self._display.begin(self._queue.status())
        received: list[int] = []
        with self._display, collect_signals(received):
            while (self._show_ended() or self._queue.open_runs()) and not received:
                self._require_jobs()
                self._wait(received)
        if received:
            ids = " ".join(self._array.ids)
            print(f"the jobs go on; the same command shows them again, and `scancel {ids}` stops them (runs are kept)")
            self.result.signal, self.result.goes_on = received[0], True
            return self.result
        self._array.cancel_waiting()
        self.result.status = self._queue.status()
        self._queue.storage.close()
        return self.result

    def _wait(self, received: list[int]) -> None:
        until = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < until and not received:
            time.sleep(0.05)

    def _show_ended(self) -> bool:
        """Prints a line for each run that has ended since the last call; returns whether there was one."""
        new = [ended for ended in self._queue.ended() if ended.job.number not in self._known]
        for ended in new:
            self._known.add(ended.job.number)
            outcome = Outcome("finished" if ended.error is None else "failed", error=ended.error)
            outcome.early, outcome.seconds = ended.early, ended.seconds
            self._display.run_ended(ended.job, outcome, False, ended.value, self._queue.status())
            self.result.finished += outcome.state == "finished"
            self.result.failed += outcome.state == "failed"
        return bool(new)

    def _require_jobs(self) -> None:
        if time.monotonic() < self._asked + JOBS_SECONDS:
            return
        self._asked = time.monotonic()
        if not self._array.states() and self._queue.open_runs():
            left = counted(int(self._queue.open_runs()), "run")
            raise UsageError(f"--slurm: all jobs have ended, and {left} wait; {self._array.last_words()}")


def _text(address: str | URL) -> str:
    return address if isinstance(address, str) else address.render_as_string(hide_password=False)
