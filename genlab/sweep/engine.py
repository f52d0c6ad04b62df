"""The offline engine: runs a sweep without a W&B server, in persistent worker processes that share a queue."""

import contextlib
import itertools
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.engine import URL

from genlab.packaged import find_program
from genlab.runs.config import option, overridden_values, run_folder, short_key
from genlab.runs.errors import UsageError
from genlab.runs.folder import RunOptions, is_running, read_summary, write_atomically
from genlab.runs.wandb_variables import check_variables, variable
from genlab.sweep.autoscaler import Autoscaler
from genlab.sweep.checks import check_program, first_point
from genlab.sweep.definition import Definition, Point
from genlab.sweep.display import Display
from genlab.sweep.parser import DefinitionError, load_definition
from genlab.sweep.queue import Job, Queue, SweepStatus, total_runs
from genlab.sweep.storage import CONNECTION_ERRORS, Storage
from genlab.sweep.worker import ORPHAN_SECONDS, STOP_SECONDS, Json, Outcome, Worker, WorkerDiedError
from genlab.words import counted

POLL_SECONDS = 1.0
"""How often to ask for a run when none is waiting, because other processes may still return runs to the queue."""
GRACE_SECONDS = 60
_NUMBER = re.compile(r"-\d+$")


@dataclass
class SweepResult:
    """The runs of a sweep that this process has executed.

    Args:
        folder: The folder of the sweep's runs, queue and logs.
        status: Status of the whole sweep at the end; None if a signal stopped this process.
        finished: Number of runs that finished.
        kept: Number of runs that had finished before and were kept.
        failed: Number of runs that failed.
        signal: The signal that stopped this process, if any.
    """

    folder: Path
    status: SweepStatus | None = None
    finished: int = 0
    kept: int = 0
    failed: int = 0
    signal: int | None = None


@dataclass(frozen=True)
class Options:
    """How to run a sweep.

    Args:
        root: Folder of all runs.
        workers: Number of runs at a time. By default one, or one per device; `auto` begins so and adds workers.
        devices: GPUs to distribute among the workers, as in CUDA_VISIBLE_DEVICES.
        storage: Address of the queue. By default the SQLite file <root>/<sweep>/sweep.db.
        count: Maximum number of runs of this process. By default all.
        retry: Repeat the runs that failed earlier.
        grace: Seconds without a heartbeat after which a run is given to another process.
        tries: A run has failed when its process has died this many times.
    """

    root: str = "runs"
    workers: int | Literal["auto"] | None = None
    devices: Sequence[str] = ()
    storage: str | None = None
    count: int | None = None
    retry: bool = False
    grace: int = GRACE_SECONDS
    tries: int = 3


def run_sweep(sweep: Definition, options: Options) -> SweepResult:
    """Executes the runs of a sweep until none is left, `count` are done, or a signal arrives.

    After Ctrl-C the current runs finish and no new one starts. A second Ctrl-C or SIGTERM stops the current runs: each
    writes a checkpoint and returns to the queue, so that it can resume later. A third Ctrl-C kills them.

    Raises:
        UsageError: The definition does not fit the program or the queue; no run has started.
    """
    return Engine(sweep, options).run()


class Engine:
    """Executes the runs of a sweep in worker processes; any number of engines can share one sweep.

    There is one thread per worker and one for heartbeats; the main thread handles signals. With `workers="auto"`, the
    thread of a worker whose run has ended may start more of them.

    `engine.run()` executes the runs and returns a SweepResult.

    Args:
        sweep: The definition of the sweep.
        options: How to run it.

    Raises:
        UsageError: The search has no end, or the program does not exist.

    Examples:
        >>> from genlab.sweep.parser import load_definition
        >>> _ = Path("program.py").write_text("def main(args, report): ...")
        >>> _ = Path("small.yaml").write_text('''
        ... program: program.py
        ... method: grid
        ... metric: {name: test/mse}
        ... parameters: {model.depth: {values: [1, 2]}}
        ... command: ["${program}", "${args}"]
        ... ''')
        >>> engine = Engine(load_definition(Path("small.yaml")), Options(workers=2))
        >>> len(engine.sweep), len(engine.workers), str(engine.folder)
        (2, 2, 'runs/small')
    """

    def __init__(self, sweep: Definition, options: Options) -> None:
        if sweep.method != "grid" and sweep.run_cap is None and options.count is None:
            error = f"a {sweep.method} search has no end; give run_cap here, or --count N"
            raise DefinitionError(sweep.path, [(sweep.line("method"), error)], sweep)
        check_variables()
        if variable("WANDB_RUN_ID"):
            raise UsageError("the environment variable WANDB_RUN_ID names one run, and a sweep has many; unset it")
        program = find_program(sweep.program, sweep.path)
        self.sweep, self.options = sweep, options
        self.folder = self._run_folder(first_point(sweep)).parent
        self.result = SweepResult(self.folder)
        self.display = Display(sweep)
        self._closing = threading.Event()
        self._stopping = threading.Event()
        self._kill_at = math.inf
        self._signals: list[int] = []
        self._remaining = threading.Semaphore(options.count) if options.count is not None else None
        self._worker_of_trial: dict[int, Worker] = {}
        self._error: BaseException | None = None
        self.workers = [Worker(program, environment) for environment in self._environments()]
        self._threads: list[threading.Thread] = []
        automatic = options.workers == "auto"
        self._scaler = Autoscaler(self.workers, _cores(), self.display.print) if automatic else None

    def run(self) -> SweepResult:
        """Executes the runs; see `run_sweep`."""
        try:
            with ThreadPoolExecutor() as pool:  # each worker imports its program
                list(pool.map(Worker.require_gpus, self.workers))
            self.queue = self._open_queue()
            self.display.begin(self.queue.status())
            monitor = self._scaler.monitor if self._scaler is not None else contextlib.nullcontext()
            with self.display, _collect_signals(self._signals), monitor:
                self._run_threads()
        except KeyboardInterrupt:  # before the first run, as Ctrl-C is handled from then on
            for worker in self.workers:
                worker.kill()
            raise
        finally:
            for worker in self.workers:
                worker.close()
        if self.result.signal is None:
            if self._error is not None:
                raise self._error
            self.result.status = self.queue.status()
            if self._scaler is not None:
                self.display.print(self._scaler.summary())
        self.queue.storage.close()
        return self.result

    def _environments(self) -> list[dict[str, str]]:
        """Returns the environment variables of each worker: its share of the cores, its GPU, and W&B's offline mode."""
        devices, workers = self.options.devices, self.options.workers
        count = workers if isinstance(workers, int) else max(1, len(devices))
        most = max(count, self._number_of_runs()) if workers == "auto" else count
        common = {"OMP_NUM_THREADS": str(max(1, _cores() // most)), "WANDB_MODE": "offline"}
        common = {name: os.environ.get(name, value) for name, value in common.items()}
        gpus = [{"CUDA_VISIBLE_DEVICES": devices[k % len(devices)]} if devices else {} for k in range(count)]
        return [common | gpu for gpu in gpus]

    def _number_of_runs(self) -> int:
        """Returns how many runs this process may get."""
        return min(count for count in (total_runs(self.sweep), self.options.count) if count is not None)

    def _open_queue(self) -> Queue:
        """Opens the queue. For a new sweep, first checks the definition against the program; nothing is written yet."""
        database = self.folder / "sweep.db"
        checked = self.options.storage is None and not database.exists()
        if checked:
            self._check()
        address = self.options.storage or URL.create("sqlite", database=str(database))
        storage = Storage(address, self.sweep.name, self.options.grace)
        run_name, notify = (lambda point: self._run_folder(point).name), self.display.print
        if not checked and not storage.retry(lambda: storage.contains(self.sweep.name), notify, self._stopping):
            self._check()
        queue = Queue(self.sweep, storage, run_name, notify, self._stopping, self.options.tries)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "sweep.yaml", self.sweep.to_yaml())
        if self.options.retry:
            queue.retry_failed()
        return queue

    def _check(self) -> None:
        self._compare_with_folder()
        self.display.print(
            f"{self.sweep.name}: checking all parameters and the metric with {self.sweep.program}", "dim"
        )
        check_program(self.sweep, self.workers[0], self._arguments)

    def _compare_with_folder(self) -> None:
        """Checks that existing runs in the folder, which may be kept, are runs of the same program."""
        try:
            before = load_definition(self.folder / "sweep.yaml").program
        except UsageError:
            return  # there is no readable definition
        if before != self.sweep.program:
            raise UsageError(
                f"{self.folder} contains runs of another program ({before}, now {self.sweep.program}); "
                f"give this sweep another name and --run.experiment, or remove {self.folder}"
            )

    def _run_threads(self) -> None:
        ended = threading.Event()
        heartbeats = threading.Thread(target=self._guard, args=(self._send_heartbeats, ended))
        heartbeats.start()
        for worker in list(self.workers):
            self._start_thread(worker)
        while any(thread.is_alive() for thread in self._threads):
            time.sleep(0.05)
            while self._signals:
                self._handle_signal(self._signals.pop(0))
            if time.monotonic() > self._kill_at:
                self._kill_at = math.inf
                for worker in self.workers:
                    worker.kill()
        ended.set()
        heartbeats.join()

    def _start_thread(self, worker: Worker) -> None:
        thread = threading.Thread(target=self._guard, args=(self._work, worker))
        self._threads.append(thread)
        thread.start()

    def _guard(self, work: Callable[[Any], None], argument: Any) -> None:
        """Calls a function in a thread; an error of the engine itself ends the whole sweep."""
        try:
            work(argument)
        except BaseException as error:
            self._error = self._error or error
            self._closing.set()

    def _work(self, worker: Worker) -> None:
        try:
            self._run_jobs(worker)
        finally:
            if self._scaler is not None:
                self._scaler.leave(worker)

    def _run_jobs(self, worker: Worker) -> None:
        """Executes runs in one worker, one after the other."""
        while not self._closing.is_set() and self._take_from_count():
            job = self.queue.claim()
            if job is None:
                self._return_to_count()
                if not self.queue.status().running:
                    return
                self._closing.wait(POLL_SECONDS)
                continue
            if self._closing.is_set():
                self.queue.requeue(job)
                return
            self._worker_of_trial[job.trial] = worker
            try:
                job = self._choose_folder(job, worker)
                self.display.run_started(job)
                outcome, kept = self._run_job(job, worker)
            except WorkerDiedError as error:
                outcome, kept = Outcome("crashed", error=str(error)), False
            except BaseException:
                self.queue.requeue(job)
                raise
            finally:
                self._worker_of_trial.pop(job.trial, None)
            self._record_outcome(job, outcome, kept, self._gives_back(job, outcome, worker))
            self._adapt_workers(worker, outcome, kept)

    def _gives_back(self, job: Job, outcome: Outcome, worker: Worker) -> bool:
        """Whether a failed run gets another try, because it shared a GPU whose memory was full."""
        return self._scaler is not None and outcome.memory_full and self._scaler.gives_back(worker, job.number)

    def _adapt_workers(self, worker: Worker, outcome: Outcome, kept: bool) -> None:
        """With `workers="auto"`, starts more workers after a run, or waits if this worker is one too many."""
        if self._scaler is None:
            return
        if outcome.memory_full:
            self._scaler.park(worker)
        elif outcome.state == "finished" and not kept and not self._closing.is_set():
            waiting = self._count_waiting() - 1  # one is for this worker
            new = self._scaler.run_ended(worker, worker.used_resources(), waiting)
            self.workers += new
            for other in new:
                self._start_thread(other)

    def _count_waiting(self) -> float:
        """Returns how many runs wait for a worker of this process."""
        status = self.queue.status()
        waiting = math.inf if status.total is None else status.total - status.finished - status.failed - status.running
        if self.options.count is None:
            return waiting
        begun = self.result.finished + self.result.failed + len(self._worker_of_trial)
        return min(waiting, self.options.count - begun)

    def _take_from_count(self) -> bool:
        """Returns whether `count` allows another run, and reserves it."""
        return self._remaining is None or self._remaining.acquire(blocking=False)

    def _return_to_count(self) -> None:
        if self._remaining is not None:
            self._remaining.release()

    def _choose_folder(self, job: Job, worker: Worker) -> Job:
        """Returns the job with the name of a run that has the config of its point, else of a folder that is free.

        The run in a folder of the point's name can have another config, because the definition or a config file was
        changed since. A run that is older than the sweep of a key has a name without it, or with all options.
        """
        args, names = self._arguments(job.point), [self._run_folder(job.point, swept).name for swept in (None, ())]
        differing: dict[str, list[str]] = {}
        for name in dict.fromkeys([job.run, *self._held_names(names)]):
            summary = read_summary(self.folder / name)
            if summary is None:
                continue
            recorded = summary.get("config") or {}
            differing[name] = worker.differing_options(args, recorded)
            if not name.startswith((job.run, *names)):  # a name without some values: the record tells them
                differing[name] += [key for key in map(short_key, job.point) if key not in recorded]
            if summary.get("ended_early") and self.sweep.early_terminate is None:
                differing[name].append("early_terminate")
            if not differing[name] and (name == job.run or self.queue.rename(job, name)):
                return replace(job, run=name)
        if job.run not in differing:
            return job
        free = (name for name in _numbered(names[0]) if not self._is_held(name) and self.queue.rename(job, name))
        other = replace(job, run=next(free))
        reason = f"the run there has other options ({', '.join(differing[job.run])})"
        self.display.print(f"{job.run} is kept and not counted, as {reason}; this run is {other.run}")
        return other

    def _held_names(self, names: Sequence[str]) -> list[str]:
        """Returns the folders whose names have no other values than these names, with a number or without."""
        values = {"default"}.union(*(name.split(",") for name in names))
        held = sorted(os.listdir(self.folder))
        return [name for name in held if any(values.issuperset(n.split(",")) for n in (name, _NUMBER.sub("", name)))]

    def _is_held(self, name: str) -> bool:
        return (self.folder / name).exists()

    def _run_job(self, job: Job, worker: Worker) -> tuple[Outcome, bool]:
        """Executes a run, from its checkpoint if it has one. A run that has finished before is kept.

        Returns:
            The outcome, and whether the run was kept.
        """
        folder = self.folder_of(job)
        before = _settled_summary(folder)
        if before.get("state") == "finished":
            metrics = {name: float(value) for name, value in before.get("metrics", {}).items()}
            return Outcome("finished", metrics, str(folder), early=bool(before.get("ended_early"))), True
        if is_running(before):
            return Outcome("failed", error=f"process {before['pid']} is still running in {folder}"), False
        args = [*self._arguments(job.point), f"--run.name={folder.name}"]
        last = folder / "checkpoints" / "last.ckpt"
        goes_on = before.get("state") in ("running", "killed") or self._was_given_back(job)
        if goes_on and last.is_file():
            args.append(f"--ckpt_path={last}")
        elif folder.exists():
            args.append("--run.overwrite=true")
        log = self.folder / "logs" / f"{job.run}.txt"

        def on_progress(progress: Json) -> bool:
            self.display.run_progressed(job, progress)
            value = progress["metrics"].get(self.sweep.metric)
            counts_steps = "step" in progress  # a user's program may count epochs only
            step = progress["step"] if counts_steps else progress["epoch"]
            return value is not None and self.queue.report(job, step, value)

        return worker.run(args, log, on_progress=on_progress), False

    def _was_given_back(self, job: Job) -> bool:
        return self._scaler is not None and self._scaler.was_given_back(job.number)

    def _record_outcome(self, job: Job, outcome: Outcome, kept: bool, given_back: bool) -> None:
        """Records the end of a run in the queue, and counts it."""
        if given_back or outcome.state in ("stopped", "crashed"):
            requeued = self.queue.requeue(job, outcome.error if outcome.state == "crashed" else None)
            if requeued:
                self.display.run_requeued(job, outcome, self.queue.status())
                self._return_to_count()
                if outcome.state == "stopped" and outcome.error is not None:
                    raise UsageError(f"{outcome.error}; free some space and give the same command again")
                return
            outcome.state, outcome.error = "failed", f"{outcome.error}, {counted(self.options.tries, 'time')}"
        value = outcome.metrics.get(self.sweep.metric)
        error = outcome.error if outcome.state == "failed" else None
        self.queue.finish(job, value, error, seconds=round(outcome.seconds, 3), early=outcome.early)
        if error is not None:
            self.result.failed += 1
        elif kept:
            self.result.kept += 1
            self._return_to_count()
        else:
            self.result.finished += 1
        self.display.run_ended(job, outcome, kept, value, self.queue.status())

    def _send_heartbeats(self, ended: threading.Event) -> None:
        """Sends heartbeats, and drops a run that was given to another process meanwhile."""
        while not ended.wait(self.queue.heartbeat_seconds):
            try:
                lost = self.queue.heartbeat()
            except CONNECTION_ERRORS:
                continue
            for job in lost:
                self.display.print(f"{job.run}: another process took it over, because this one sent no heartbeat")
                if worker := self._worker_of_trial.get(job.trial):
                    worker.drop_run()

    def _handle_signal(self, number: int) -> None:
        first = self.result.signal is None
        self._closing.set()
        self.result.signal = number
        if number == signal.SIGINT and first:
            self.display.print("finishing the current runs; press Ctrl-C again to stop them")
            return
        if number == signal.SIGINT and self._stopping.is_set():
            self._kill_at = 0.0
            return
        self._stopping.set()
        self._kill_at = time.monotonic() + STOP_SECONDS
        for worker in self.workers:
            worker.stop()

    def folder_of(self, job: Job) -> Path:
        """Returns the run folder of a job."""
        return self._run_folder(job.point).with_name(job.run)

    def _arguments(self, point: Point) -> list[str]:
        """Returns the program's arguments for one point, including those that say where the run is stored."""
        args = self.sweep.arguments(point)
        ours = {
            "run.experiment": self.sweep.name,
            "run.project": None if variable("WANDB_PROJECT") else self.sweep.project,  # as for `wandb sweep`
            "run.entity": None if variable("WANDB_ENTITY") else self.sweep.entity,
        }
        for name, value in ours.items():
            if value is not None and option(args, name) is None:
                args.append(f"--{name}={value}")
        return [*args, f"--run.root={self.options.root}"]

    def _run_folder(self, point: Point, swept: Sequence[str] | None = None) -> Path:
        """Returns the folder of a run, named by the same rule as in the program, by what differs between the runs."""
        args = self._arguments(point)
        options = RunOptions(root=self.options.root, experiment=option(args, "run.experiment"))
        values = overridden_values(args) | {short_key(key): value for key, value in point.items()}
        swept = self.sweep.in_names if swept is None else swept
        return run_folder(args, options, {"model": "", "data": "", **values}, swept)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _numbered(name: str) -> Iterator[str]:
    """Yields name, name-2, name-3, ..."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _settled_summary(folder: Path) -> Json:
    """Returns the summary of a run, after waiting for a process that is still running there without its parent."""
    deadline = time.monotonic() + 2 * ORPHAN_SECONDS
    while True:
        summary = read_summary(folder) or {}
        if not is_running(summary) or time.monotonic() > deadline:
            return summary
        time.sleep(0.2)


@contextlib.contextmanager
def _collect_signals(received: list[int]) -> Iterator[None]:
    """Appends each SIGINT and SIGTERM to a list, which the main thread reads."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda n, _: received.append(n)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
