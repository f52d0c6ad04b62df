"""The offline engine: runs a sweep without a W&B server, in persistent worker processes that share a queue."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.engine import URL

from genlab.packaged import find_program
from genlab.runs.config import option
from genlab.runs.errors import UsageError
from genlab.runs.folder import is_running, write_atomically
from genlab.runs.wandb_variables import check_variables, variable
from genlab.sweep.checks import check_program, first_point
from genlab.sweep.definition import Definition
from genlab.sweep.display import Display
from genlab.sweep.fleet import Fleet, LocalFleet, RayOptions, ray_fleet
from genlab.sweep.parser import DefinitionError, load_definition
from genlab.sweep.queue import Job, Queue, SweepStatus, total_runs
from genlab.sweep.run_folders import RunFolders, settled_summary
from genlab.sweep.storage import open_storage
from genlab.sweep.storage_base import CONNECTION_ERRORS
from genlab.sweep.worker import STOP_SECONDS, Json, Outcome, Worker, WorkerDiedError, WorkerLostError
from genlab.words import counted

POLL_SECONDS = 1.0
"""How often to ask for a run when none is waiting, because other processes may still return runs to the queue."""
GRACE_SECONDS = 60


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
        exit_status: Exit status of a command that ended before the sweep, whose jobs a cluster executes.
    """

    folder: Path
    status: SweepStatus | None = None
    finished: int = 0
    kept: int = 0
    failed: int = 0
    signal: int | None = None
    exit_status: int | None = None


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
        shared_queue: Whether the queue is by default a journal, which processes of several machines can share.
        ray: The Ray cluster whose nodes execute the runs; None for this machine.
    """

    root: str = "runs"
    workers: int | Literal["auto"] | None = None
    devices: Sequence[str] = ()
    storage: str | None = None
    count: int | None = None
    retry: bool = False
    grace: int = GRACE_SECONDS
    tries: int = 3
    shared_queue: bool = False
    ray: RayOptions | None = None


def run_sweep(sweep: Definition, options: Options) -> SweepResult:
    """Executes the runs of a sweep until none is left, `count` are done, or a signal arrives.

    After Ctrl-C the current runs finish and no new one starts. A second Ctrl-C or SIGTERM stops the current runs: each
    writes a checkpoint and returns to the queue, so that it can resume later. A third Ctrl-C kills them.

    Raises:
        UsageError: The definition does not fit the program or the queue; no run has started.
    """
    return Engine(sweep, options).run()


class Engine:
    """Executes the runs of a sweep in the workers of a fleet; any number of engines can share one sweep.

    There is one thread per worker and one for heartbeats; the main thread handles signals and asks for more workers.

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
        >>> len(engine.sweep), len(engine.fleet.workers), str(engine.folder)
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
        self.folders = RunFolders(sweep, options.root)
        self.folder = self.folders.folder
        self.result = SweepResult(self.folder)
        self.display = Display(sweep)
        self._closing = threading.Event()
        self._stopping = threading.Event()
        self._kill_at = math.inf
        self._signals: list[int] = []
        self._remaining = threading.Semaphore(options.count) if options.count is not None else None
        self._idle = threading.Lock()
        self._no_new_points = False
        self._worker_of_trial: dict[int, Worker] = {}
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self.fleet = self._make_fleet(program)

    def run(self) -> SweepResult:
        """Executes the runs; see `run_sweep`."""
        try:
            self.fleet.open()
            self.queue = self.open_queue()
            self.display.begin(self.queue.status())
            with self.display, collect_signals(self._signals):
                self._run_threads()
        except KeyboardInterrupt:  # before the first run, as Ctrl-C is handled from then on
            for worker in self.fleet.workers:
                worker.kill()
            raise
        finally:
            with collect_signals(self._signals):
                self.fleet.close()
        if self.result.signal is None:
            if self._error is not None:
                raise self._error
            self.result.status = self.queue.status()
            if summary := self.fleet.summary():
                self.display.print(summary)
        self.queue.storage.close()
        return self.result

    def _make_fleet(self, program: Path) -> Fleet:
        options, most = self.options, self._number_of_runs()
        if options.ray is None:
            return LocalFleet(program, options.workers, options.devices, most, self.display.print)
        limit = options.workers if isinstance(options.workers, int) else None
        data = option(self.folders.arguments(first_point(self.sweep)), "data.root") or "data"
        variables = {"WANDB_MODE": variable("WANDB_MODE") or "offline"}
        return ray_fleet(program, options.root, options.ray, limit, data, variables, self.display.print)

    def _number_of_runs(self) -> float:
        """Returns how many runs this process may get."""
        bounds = (total_runs(self.sweep), self.options.count)
        return min((bound for bound in bounds if bound is not None), default=math.inf)

    def address(self) -> str | URL:
        """Returns the address of the queue: by default a journal if it is shared, or is there already."""
        folder = self.folder.absolute()
        shared = self.options.shared_queue or (folder / "sweep.journal").exists()
        kind, name = ("journal", "sweep.journal") if shared else ("sqlite", "sweep.db")
        return self.options.storage or URL.create(kind, database=str(folder / name))

    def open_queue(self) -> Queue:
        """Opens the queue. For a new sweep, first checks the definition against the program; nothing is written yet."""
        address = self.address()
        checked = isinstance(address, URL) and not Path(str(address.database)).exists()
        if checked:
            self._check()
            self.folder.mkdir(parents=True, exist_ok=True)
        storage = open_storage(address, self.sweep.name, self.options.grace)
        run_name, notify = (lambda point: self.folders.planned(point).name), self.display.print
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
        check_program(self.sweep, self.fleet.workers[0], self.folders.arguments)

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
        while self._add_workers() or any(thread.is_alive() for thread in self._threads):
            time.sleep(0.05)
            while self._signals:
                self._handle_signal(self._signals.pop(0))
            if time.monotonic() > self._kill_at:
                self._kill_at = math.inf
                for worker in self.fleet.workers:
                    worker.kill()
        ended.set()
        heartbeats.join()

    def _add_workers(self) -> bool:
        """Starts the threads of new workers; returns whether there are any."""
        new = [] if self._closing.is_set() else self.fleet.add(self._count_waiting)
        for worker in new:
            thread = threading.Thread(target=self._guard, args=(self._work, worker))
            self._threads.append(thread)
            thread.start()
        return bool(new)

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
            self.fleet.leave(worker)

    def _run_jobs(self, worker: Worker) -> None:
        """Executes runs in one worker, one after the other."""
        while worker.wait_until_ready(self._closing) and self._take_from_count():
            job = self._next_job(worker)
            if job is None:
                self._return_to_count()
                return
            if self._closing.is_set():
                self.queue.requeue(job)
                return
            self._worker_of_trial[job.trial] = worker
            try:
                job = self.folders.choose(job, worker, self.queue.rename, self.display.print)
                self.display.run_started(job)
                outcome, kept = self._run_job(job, worker)
            except WorkerDiedError as error:
                outcome, kept = Outcome("crashed", error=str(error)), False
            except WorkerLostError as error:
                outcome, kept = Outcome("lost", error=str(error)), False
            except BaseException:
                self.queue.requeue(job)
                raise
            finally:
                self._worker_of_trial.pop(job.trial, None)
            given_back = outcome.state == "failed" and self.fleet.gives_back(worker, job.number, outcome)
            self._record_outcome(job, outcome, kept, given_back)
            if not self._closing.is_set():
                self.fleet.run_ended(worker, outcome, kept, self._count_waiting)

    def _next_job(self, worker: Worker) -> Job | None:
        """Returns the next run; None if this worker can end.

        While none waits, others may still return theirs. One worker of this process at a time asks again and again.
        """
        job = self.queue.claim()
        self._no_new_points |= job is None
        if job is not None or (self._idle.locked() and self.fleet.is_spare(worker)):
            return job
        with self._idle:
            while not self._closing.is_set():
                if (job := self.queue.claim()) is not None or not self.queue.status().running:
                    return job
                self._closing.wait(POLL_SECONDS)
        return None

    def _count_waiting(self) -> float:
        """Returns how many runs wait for a worker of this process."""
        status = self.queue.status()
        done = status.finished + status.failed + status.running
        total = math.inf if status.total is None else status.total
        waiting = status.waiting if self._no_new_points else total - done
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

    def _run_job(self, job: Job, worker: Worker) -> tuple[Outcome, bool]:
        """Executes a run, from its checkpoint if it has one. A run that has finished before is kept.

        Returns:
            The outcome, and whether the run was kept.
        """
        folder = self.folders.of(job)
        before = settled_summary(folder)
        if before.get("state") == "finished":
            metrics = {name: float(value) for name, value in before.get("metrics", {}).items()}
            return Outcome("finished", metrics, str(folder), early=bool(before.get("ended_early"))), True
        if is_running(before):
            return Outcome("failed", error=f"process {before['pid']} is still running in {folder}"), False
        args = [*self.folders.arguments(job.point), f"--run.name={folder.name}"]
        last = folder / "checkpoints" / "last.ckpt"
        goes_on = before.get("state") in ("running", "killed") or self.fleet.was_given_back(job.number)
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

    def _record_outcome(self, job: Job, outcome: Outcome, kept: bool, given_back: bool) -> None:
        """Records the end of a run in the queue, and counts it."""
        if given_back or outcome.state in ("stopped", "crashed", "lost"):
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
        for worker in self.fleet.workers:
            worker.stop()


@contextlib.contextmanager
def collect_signals(received: list[int]) -> Iterator[None]:
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
