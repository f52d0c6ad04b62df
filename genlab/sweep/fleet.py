"""The workers of a sweep: how many there are, and where they are."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from genlab.runs.errors import UsageError
from genlab.sweep.autoscaler import Autoscaler
from genlab.sweep.worker import Outcome, Worker

if TYPE_CHECKING:
    from genlab.sweep.ray_fleet import RayFleet

Notify = Callable[[str], None]


@dataclass(frozen=True)
class RayOptions:
    """How to use a Ray cluster.

    Args:
        address: Its address, as `ray.init` takes it; `auto` is the cluster of this machine, or a new one here.
        cpus: CPUs of a worker.
        gpus: GPUs of a worker, or a part of one. By default one if the cluster has any.
        send: Files and folders for nodes that do not share this file system.
    """

    address: str = "auto"
    cpus: float = 1.0
    gpus: float | None = None
    send: tuple[str, ...] = ()


class Fleet(Protocol):
    """What the engine asks of the workers of a sweep.

    Args:
        workers: All workers, to which the engine gives signals.
    """

    workers: list[Worker]

    def open(self) -> None:
        """Makes the first worker ready to answer questions."""

    def close(self) -> None:
        """Ends all workers."""

    def add(self, waiting: Callable[[], float]) -> Sequence[Worker]:
        """Returns new workers; the engine asks again and again, from the start on.

        Args:
            waiting: Returns how many runs wait for a worker.
        """

    def is_spare(self, worker: Worker) -> bool:
        """Whether a worker without a run can end, because another one is there for runs that return to the queue."""

    def run_ended(self, worker: Worker, outcome: Outcome, kept: bool, waiting: Callable[[], float]) -> None:
        """Notes how a run of a worker has ended, before the worker takes the next one; may wait."""

    def gives_back(self, worker: Worker, number: int, outcome: Outcome) -> bool:
        """Whether the failed run of a point gets another try, from its last checkpoint."""

    def was_given_back(self, number: int) -> bool:
        """Whether the run of a point has been given another try."""

    def leave(self, worker: Worker) -> None:
        """Notes that a worker has no more runs."""

    def summary(self) -> str | None:
        """Returns a line about the number of workers, if it was not given."""


class LocalFleet:
    """Worker processes on this machine. With `workers="auto"`, there are more of them while there is room.

    Args:
        program: The program of the runs.
        workers: Number of runs at a time; None is one, or one per device.
        devices: GPUs to distribute among the workers, as in CUDA_VISIBLE_DEVICES.
        most: Number of runs that this process may get.
        notify: Called with a line for each change of the number.

    Examples:
        >>> fleet = LocalFleet(Path("program.py"), None, ("0", "1"), 100, print)
        >>> [worker.environment["CUDA_VISIBLE_DEVICES"] for worker in fleet.add(lambda: 100)], fleet.add(lambda: 100)
        (['0', '1'], [])
    """

    def __init__(
        self, program: Path, workers: int | str | None, devices: Sequence[str], most: float, notify: Notify
    ) -> None:
        automatic = workers == "auto"
        count = workers if isinstance(workers, int) else max(1, len(devices))
        threads = cores() // int(max(count, most) if automatic else count)
        common = {"OMP_NUM_THREADS": str(max(1, threads)), "WANDB_MODE": "offline"}
        common = {name: os.environ.get(name, value) for name, value in common.items()}
        gpus = [{"CUDA_VISIBLE_DEVICES": devices[k % len(devices)]} if devices else {} for k in range(count)]
        self.workers = [Worker(program, common | gpu) for gpu in gpus]
        self._new = list(self.workers)
        self._scaler = Autoscaler(self.workers, cores(), notify) if automatic else None
        self._stack = contextlib.ExitStack()

    def open(self) -> None:
        with ThreadPoolExecutor() as pool:  # each worker imports its program
            list(pool.map(Worker.require_gpus, self.workers))
        if self._scaler is not None:
            self._stack.enter_context(self._scaler.monitor)

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        self._stack.close()

    def add(self, waiting: Callable[[], float]) -> Sequence[Worker]:
        new, self._new = self._new, []
        return new

    def is_spare(self, worker: Worker) -> bool:
        return False

    def run_ended(self, worker: Worker, outcome: Outcome, kept: bool, waiting: Callable[[], float]) -> None:
        if self._scaler is None:
            return
        if outcome.memory_full:
            self._scaler.park(worker)
        elif outcome.state == "finished" and not kept:
            others = waiting() - 1  # one is for this worker
            new = self._scaler.run_ended(worker, worker.used_resources(), others)
            self.workers += new
            self._new += new

    def gives_back(self, worker: Worker, number: int, outcome: Outcome) -> bool:
        return self._scaler is not None and outcome.memory_full and self._scaler.gives_back(worker, number)

    def was_given_back(self, number: int) -> bool:
        return self._scaler is not None and self._scaler.was_given_back(number)

    def leave(self, worker: Worker) -> None:
        if self._scaler is not None:
            self._scaler.leave(worker)

    def summary(self) -> str | None:
        return None if self._scaler is None else self._scaler.summary()


def ray_fleet(*arguments: Any) -> "RayFleet":
    """Returns the workers on a Ray cluster, as the class RayFleet.

    Raises:
        UsageError: Ray is not installed.
    """
    hook = sys.excepthook
    try:
        from genlab.sweep.ray_fleet import RayFleet
    except ModuleNotFoundError:
        raise UsageError("--ray needs the package ray: pip install 'genlab[ray]'") from None
    finally:
        sys.excepthook = hook  # Ray's own would keep errors from being printed
    return RayFleet(*arguments)


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
