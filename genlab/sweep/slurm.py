"""Sweeps on a Slurm cluster: an array of jobs, each of which is a whole `sweep.py run` or `sweep.py agent`."""

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy.engine import URL

from genlab.runs.config import option
from genlab.runs.errors import UsageError
from genlab.sweep.checks import first_point
from genlab.sweep.definition import Definition
from genlab.sweep.engine import Engine, Options, SweepResult, collect_signals
from genlab.sweep.queue import Queue
from genlab.sweep.slurm_jobs import Array, Job, describe, parse_options, require_slurm
from genlab.sweep.slurm_task import Task
from genlab.sweep.worker import Outcome, search_path
from genlab.words import counted

WATCH_SECONDS = 2.0
"""How often the queue is read."""
JOBS_SECONDS = 15.0
"""How often Slurm is asked for the jobs."""


def run_on_slurm(
    sweep: Definition, options: Options, slurm: str, words: Sequence[str], detach: bool = False
) -> SweepResult:
    """Executes the runs of a sweep in jobs of a Slurm cluster.

    Jobs of an earlier call that still wait or run are counted, and only those that are missing are submitted. Ctrl-C
    ends the call, and not the jobs.

    Args:
        sweep: The definition of the sweep.
        options: How to run it; `workers` is the number of jobs.
        slurm: Options of sbatch.
        words: The command line of `sweep.py run` in each job, without what follows from `options`.
        detach: Whether to return when the jobs are submitted.

    Raises:
        UsageError: The definition does not fit the program or the queue, or Slurm does not accept the jobs.
    """
    accepted = parse_options(slurm)
    require_slurm()
    if (options.storage or "").startswith("sqlite"):
        raise UsageError("--storage: SQLite is for one machine; leave it out, or give journal:///FILE or postgresql://")
    engine = Engine(sweep, replace(options, workers=1, shared_queue=True))
    array = Array(engine.folder / "slurm")
    before = array.jobs()
    try:
        queue = engine.open_queue()
    finally:
        engine.fleet.close()
    with contextlib.closing(queue.storage):
        missing = min(int(options.workers or 1), queue.open_runs()) - len(before)
        if missing > 0:
            command = ["run", *words, f"--storage={_text(engine.address())}", "--no-report"]
            devices = option(engine.folders.arguments(first_point(sweep)), "trainer.devices")
            task = _task(command, per_gpu="--devices" if devices in (None, "1") else None)
            array.submit(task, accepted, int(missing), sweep.name)
        if detach:
            print(_about(array.jobs()), "The same command without --detach shows the runs.")
            return SweepResult(engine.folder, exit_status=0)
        return Watcher(engine, queue, array).watch()


def submit_agents(path: str, slurm: str, workers: int, root: str) -> None:
    """Submits an array of agents of a W&B sweep, without those that are there already.

    Raises:
        UsageError: There is no such sweep, or Slurm does not accept the jobs.
    """
    from genlab.sweep.agent_server import SweepServer

    accepted = parse_options(slurm)
    require_slurm()
    SweepServer(path)
    array = Array(Path(root) / "slurm" / path.replace("/", "_"))
    missing = workers - len(array.jobs())
    if missing > 0:
        array.submit(_task(["agent", path]), accepted, missing, path.rpartition("/")[2])
    print(_about(array.jobs()), f"Their output is in {array.folder}.")


def _task(words: Sequence[str], per_gpu: str | None = None) -> Task:
    command = [sys.executable, "-m", "genlab", "sweep", *words]
    return Task(command, {"PYTHONPATH": search_path(), "PYTHONUNBUFFERED": "1"}, per_gpu)


def _about(jobs: list[Job]) -> str:
    """Returns how many jobs there are, and how to stop them."""
    return f"Slurm: {describe(jobs)}. `scancel {_arrays(jobs)}` stops them; the runs are kept, and go on later."


def _arrays(jobs: list[Job]) -> str:
    return " ".join(dict.fromkeys(job.array for job in jobs))


class Watcher:
    """Shows the progress of a sweep that jobs execute.

    Args:
        engine: Its display and its folder.
        queue: The queue.
        array: The jobs.
    """

    def __init__(self, engine: Engine, queue: Queue, array: Array) -> None:
        self._display, self._queue, self._array = engine.display, queue, array
        self._result = SweepResult(engine.folder)
        self._known = {ended.job.number for ended in queue.ended()}
        self._jobs: list[Job] = []
        self._ask_at = 0.0
        self._said = ""

    def watch(self) -> SweepResult:
        """Shows the runs until none is left, no job is left, or a signal arrives."""
        received: list[int] = []
        status = self._queue.status()
        self._display.begin(status)
        with self._display, collect_signals(received):
            while self._update() and not received:
                self._wait(received)
        if received:
            print(_about(self._jobs), "The same command shows the runs again.")
            self._result.exit_status = 128 + received[0]
        elif self._queue.open_runs():
            left = f"all jobs have ended, with {counted(int(self._queue.open_runs()), 'run')} left"
            print(f"error: {left}; the same command submits new jobs; {self._array.last_words()}", file=sys.stderr)
            self._result.exit_status = 1
        else:
            with contextlib.suppress(UsageError):
                self._array.cancel_waiting(self._array.jobs())
            self._result.status = self._queue.status()
        return self._result

    def _update(self) -> bool:
        """Shows what is new; returns whether there are jobs and runs left."""
        if time.monotonic() > self._ask_at:
            self._ask()
        status = self._queue.status()
        for ended in self._queue.ended():
            if ended.job.number not in self._known:
                self._known.add(ended.job.number)
                outcome = Outcome("finished" if ended.error is None else "failed", error=ended.error)
                outcome.early, outcome.seconds = ended.early, ended.seconds
                self._display.run_ended(ended.job, outcome, False, ended.value, status)
                self._result.finished += ended.error is None
                self._result.failed += ended.error is not None
        self._display.show(status, f"{status.running} running in {describe(self._jobs)}")
        return bool(self._jobs and self._queue.open_runs())

    def _ask(self) -> None:
        """Asks for the jobs, unless Slurm does not answer; if none of them runs, shows why they wait."""
        self._ask_at = time.monotonic() + JOBS_SECONDS
        with contextlib.suppress(UsageError):
            self._jobs = self._array.jobs()
        known = all(job.state == "PD" and job.reason != "None" for job in self._jobs)
        if self._jobs and known and (text := f"Slurm: {describe(self._jobs)}") != self._said:
            self._said = text
            self._display.print(text, "dim")

    def _wait(self, received: list[int]) -> None:
        until = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < until and not received:
            time.sleep(0.05)


def _text(address: str | URL) -> str:
    return address if isinstance(address, str) else address.render_as_string(hide_password=False)
