"""Runs a sweep without a server: warm workers, given runs out of a queue that survives all of them."""

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from genlab.runs.config import given_values, option, run_home
from genlab.runs.errors import UsageError
from genlab.runs.folder import RunOptions, is_going_on, read_summary, write_whole
from genlab.sweep.checks import check_program, first_point
from genlab.sweep.definition import Definition, Point, differences
from genlab.sweep.definition_file import load_definition
from genlab.sweep.display import Display
from genlab.sweep.queue import Queue, Standing, Ticket
from genlab.sweep.storage import AWAY, Storage
from genlab.sweep.worker import ORPHAN_SECONDS, SECONDS_TO_STOP, Json, Outcome, Worker

SECONDS_BETWEEN_QUESTIONS = 1.0
"""How often to ask for work when there is none at the moment, because others may still give runs back."""
GRACE_SECONDS = 60


@dataclass
class Tally:
    """What this process has done of a sweep.

    Args:
        folder: where the sweep's runs, queue and logs are.
        standing: of the whole sweep in the end.
    """

    folder: Path
    standing: Standing | None = None
    finished: int = 0
    kept: int = 0
    failed: int = 0
    signal: int | None = None
    """What stopped it, if anything did."""


@dataclass(frozen=True)
class Options:
    """How to run a sweep.

    Args:
        root: folder of all runs.
        workers: how many runs at a time; by default one, or one a device.
        devices: GPUs to share out among the workers, as CUDA_VISIBLE_DEVICES has them.
        storage: address of the queue; by default <root>/<sweep>/sweep.db.
        count: how many runs this process may do; by default as many as there are.
        retry: do failed runs of an earlier time again.
        grace: seconds of silence after which a run is taken from its owner.
        tries: how often a run's process may die before the run has failed.
    """

    root: str = "runs"
    workers: int | None = None
    devices: Sequence[str] = ()
    storage: str | None = None
    count: int | None = None
    retry: bool = False
    grace: int = GRACE_SECONDS
    tries: int = 3


def run_sweep(sweep: Definition, options: Options) -> Tally:
    """Works on a sweep until none of its runs is left, `count` are done, or a signal comes.

    Ctrl-C once lets the runs in hand finish, twice stops them; SIGTERM stops them. A stopped run writes its
    checkpoint, returns to the queue, and goes on from there later.

    Raises:
        UsageError: the definition does not fit the program, or not the queue; nothing has been run.
    """
    return Engine(sweep, options).run()


class Engine:
    """One process's part in a sweep: a thread a worker, one for heartbeats, and the main one for signals and display.

    Args:
        sweep: what to run.
        options: how.
    """

    def __init__(self, sweep: Definition, options: Options) -> None:
        if sweep.method != "grid" and sweep.run_cap is None and options.count is None:
            raise UsageError(f"a {sweep.method} search never ends: give run_cap in {sweep.path}, or --count")
        if not Path(sweep.program).is_file():
            raise UsageError(f"the sweep's program {sweep.program} is not here; start in the folder that holds it")
        self.sweep, self.options = sweep, options
        self.folder = self._home(first_point(sweep)).parent
        self.tally = Tally(self.folder)
        self.display = Display(sweep)
        self._closing = threading.Event()
        self._stopping = threading.Event()
        self._kill_at = math.inf
        self._signals: list[int] = []
        self._left = threading.Semaphore(options.count) if options.count is not None else None
        self._hands: dict[int, Worker] = {}
        self._broken: BaseException | None = None
        self.workers = [Worker(Path(sweep.program), environment) for environment in self._environments()]

    def run(self) -> Tally:
        try:
            self.queue = self._open_queue()
            self.display.begin(self.queue.standing())
            with self.display, _signals(self._signals):
                self._work()
        finally:
            for worker in self.workers:
                worker.close()
        if self.tally.signal is None:
            if self._broken is not None:
                raise self._broken
            self.tally.standing = self.queue.standing()
        self.queue.storage.close()
        return self.tally

    def _environments(self) -> list[dict[str, str]]:
        """What each worker has beside this process's environment: its share of the cores, its GPU, W&B offline."""
        devices = self.options.devices
        count = self.options.workers or max(1, len(devices))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        common = {"OMP_NUM_THREADS": str(max(1, cores // count)), "WANDB_MODE": "offline"}
        common = {name: os.environ.get(name, value) for name, value in common.items()}
        gpus = [{"CUDA_VISIBLE_DEVICES": devices[k % len(devices)]} if devices else {} for k in range(count)]
        return [common | gpu for gpu in gpus]

    def _open_queue(self) -> Queue:
        """Checks the definition against the program before anything is written, unless the sweep is under way."""
        database = self.folder / "sweep.db"
        checked = self.options.storage is None and not database.exists()
        if checked:
            self._check()
        address = self.options.storage or URL.create("sqlite", database=str(database))
        storage = Storage(address, self.sweep.name, self.options.grace)
        if not checked and not storage.holds(self.sweep.name):
            self._check()
        say, stop = self.display.say, self._stopping
        queue = Queue(self.sweep, storage, lambda point: self._home(point).name, say, stop, self.options.tries)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "sweep.yaml", self.sweep.to_yaml())
        if self.options.retry:
            queue.retry_failed()
        return queue

    def _check(self) -> None:
        self._compare_with_folder()
        self.display.say(f"{self.sweep.name}: trying every parameter and the metric on {self.sweep.program}", "dim")
        check_program(self.sweep, self.workers[0], self._arguments)

    def _compare_with_folder(self) -> None:
        """Runs that are there already will be kept, so they must be runs of the same command."""
        try:
            before = load_definition(self.folder / "sweep.yaml").record()
        except UsageError:
            return  # there is none, or none that can be read
        changes = [line for line in differences(before, self.sweep.record()) if not line.startswith("parameters.")]
        if changes:
            raise UsageError(
                f"{self.folder} holds runs of another sweep:\n"
                + "".join(f"  {change}\n" for change in changes)
                + f"give this one another name and --run.experiment, or remove {self.folder}"
            )

    def _work(self) -> None:
        threads = [threading.Thread(target=self._guard, args=(self._serve, worker)) for worker in self.workers]
        ended = threading.Event()
        heart = threading.Thread(target=self._guard, args=(self._beat, ended))
        for thread in (*threads, heart):
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.05)
            while self._signals:
                self._obey(self._signals.pop(0))
            if time.monotonic() > self._kill_at:
                self._kill_at = math.inf
                for worker in self.workers:
                    worker.kill()
        ended.set()
        heart.join()

    def _guard(self, work: Callable[[Any], None], argument: Any) -> None:
        """An error of the engine's own ends the sweep, not just a thread."""
        try:
            work(argument)
        except BaseException as error:
            self._broken = self._broken or error
            self._closing.set()

    def _serve(self, worker: Worker) -> None:
        """One worker's runs, one after the other."""
        while not self._closing.is_set() and self._may_begin():
            ticket = self.queue.claim()
            if ticket is None:
                self._did_not_count()
                if not self.queue.standing().running:
                    return
                self._closing.wait(SECONDS_BETWEEN_QUESTIONS)
                continue
            if self._closing.is_set():
                self.queue.give_back(ticket)
                return
            self._hands[ticket.trial] = worker
            try:
                self.display.started(ticket)
                outcome, kept = self._do(ticket, worker)
            except BaseException:
                self.queue.give_back(ticket)
                raise
            finally:
                self._hands.pop(ticket.trial, None)
            self._settle(ticket, outcome, kept)

    def _may_begin(self) -> bool:
        return self._left is None or self._left.acquire(blocking=False)

    def _did_not_count(self) -> None:
        if self._left is not None:
            self._left.release()

    def _do(self, ticket: Ticket, worker: Worker) -> tuple[Outcome, bool]:
        """Runs it, unless its folder shows that it has finished before; goes on from its checkpoint if it has one."""
        folder = self.folder_of(ticket)
        before = _summary_at_rest(folder)
        if before.get("state") == "finished":
            metrics = {name: float(value) for name, value in before.get("metrics", {}).items()}
            return Outcome("finished", metrics, str(folder)), True
        if is_going_on(before):
            return Outcome("failed", error=f"process {before['pid']} is still at work in {folder}"), False
        args = [*self._arguments(ticket.point), f"--run.name={folder.name}"]
        last = folder / "checkpoints" / "last.ckpt"
        if before.get("state") in ("running", "killed") and last.is_file():
            args.append(f"--ckpt_path={last}")
        elif folder.exists():
            args.append("--run.overwrite=true")
        log = self.folder / "logs" / f"{ticket.run}.txt"

        def heard(progress: Json) -> bool:
            self.display.progressed(ticket, progress)
            value = progress["metrics"].get(self.sweep.metric)
            return value is not None and self.queue.report(ticket, progress["epoch"], value)

        return worker.run(args, log, on_progress=heard), False

    def _settle(self, ticket: Ticket, outcome: Outcome, kept: bool) -> None:
        """Writes a run's end into the queue, and counts it."""
        if outcome.state in ("stopped", "died"):
            returned = self.queue.give_back(ticket, outcome.error if outcome.state == "died" else None)
            if returned:
                self.display.gave_back(ticket, outcome, self.queue.standing())
                self._did_not_count()
                if outcome.state == "stopped" and outcome.error is not None:
                    raise UsageError(f"{outcome.error}; make room and give the same command again")
                return
            outcome.state, outcome.error = "failed", f"{outcome.error}, {self.options.tries} times"
        value = outcome.metrics.get(self.sweep.metric)
        error = outcome.error if outcome.state == "failed" else None
        self.queue.finish(ticket, value, error, seconds=round(outcome.seconds, 3), early=outcome.early)
        if error is not None:
            self.tally.failed += 1
        elif kept:
            self.tally.kept += 1
            self._did_not_count()
        else:
            self.tally.finished += 1
        self.display.ended(ticket, outcome, kept, value, self.queue.standing())

    def _beat(self, ended: threading.Event) -> None:
        """Heartbeats; a run that another has been given meanwhile is ended here."""
        while not ended.wait(self.queue.seconds_between_beats):
            try:
                lost = self.queue.beat()
            except AWAY:
                continue
            for ticket in lost:
                self.display.say(f"{ticket.run}: this process was silent for too long, and the run is another's now")
                if worker := self._hands.get(ticket.trial):
                    worker.drop_run()

    def _obey(self, number: int) -> None:
        first = self.tally.signal is None
        self._closing.set()
        self.tally.signal = number
        if number == signal.SIGINT and first:
            self.display.say("finishing the runs in hand; Ctrl-C again stops them")
            return
        if number == signal.SIGINT and self._stopping.is_set():
            self._kill_at = 0.0
            return
        self._stopping.set()
        self._kill_at = time.monotonic() + SECONDS_TO_STOP
        for worker in self.workers:
            worker.stop()

    def folder_of(self, ticket: Ticket) -> Path:
        return self._home(ticket.point).with_name(ticket.run)

    def _arguments(self, point: Point) -> list[str]:
        """The program's arguments for one point: the sweep's own, and where the run goes."""
        args = self.sweep.arguments(point)
        for name, value in (("run.experiment", self.sweep.name), ("run.project", self.sweep.project)):
            if value is not None and option(args, name) is None:
                args.append(f"--{name}={value}")
        return [*args, f"--run.root={self.options.root}"]

    def _home(self, point: Point) -> Path:
        """Where the program will put the run: the same rule, on the values as the sweep gives them."""
        args = self._arguments(point)
        options = RunOptions(root=self.options.root, experiment=option(args, "run.experiment"))
        return run_home(args, options, {"model": "", "data": "", **given_values(args), **point})


def _summary_at_rest(folder: Path) -> Json:
    """A run's summary, once no process that has lost its parent writes there any more."""
    deadline = time.monotonic() + 2 * ORPHAN_SECONDS
    while True:
        summary = read_summary(folder) or {}
        if not is_going_on(summary) or time.monotonic() > deadline:
            return summary
        time.sleep(0.2)


@contextlib.contextmanager
def _signals(received: list[int]) -> Iterator[None]:
    """SIGINT and SIGTERM are put into a list, for the main thread to act on between two looks."""
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
