"""The workers of `sweep.py run --workers auto`: more while that helps, fewer where the memory of a GPU was full."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from genlab.sweep.gpu_monitor import GpuMonitor, UnreadableError
from genlab.sweep.scaling import GIB, Decision, Gpu, Measured, decide
from genlab.sweep.worker import Json, Worker
from genlab.words import counted

MOST_WORKERS = 32
"""No device gets more workers."""
CUDA_MEMORY = GIB / 2
"""What a process takes of a GPU beside the memory that PyTorch reserves there."""


@dataclass
class Share:
    """The workers of one device.

    Args:
        name: The device, for messages.
        workers: The workers that may run.
        limit: No more workers than these.
        measured: Workers that have ended a run since the number of workers was last considered.
        memory: Bytes that a worker has taken at most.
        reserved: Bytes that a worker has reserved of the GPU at most.
        shared: Whether there has been more than one worker.
        reason: Why there are not more.
        left: Counts the workers that have ended, so that one of `park` can take the place of each.
    """

    name: str
    workers: list[Worker]
    limit: int = MOST_WORKERS
    measured: set[Worker] = field(default_factory=set)
    memory: float = 1.0
    reserved: float = 1.0
    shared: bool = False
    reason: str = "no other run waited"
    left: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class Autoscaler:
    """Decides how many workers each device has, from what its runs take. The engine starts and ends them.

    Args:
        workers: The first workers.
        cores: Cores of the machine.
        notify: Called with a line for each change.
        monitor: What is asked about the GPUs.

    Examples:
        >>> from pathlib import Path
        >>> first = Worker(Path("program.py"))
        >>> scaler = Autoscaler([first], cores=4, notify=print)
        >>> took = {"memory": 1.0 * GIB, "free": 20.0 * GIB, "threads": 2, "gpus": {}}
        >>> len(scaler.run_ended(first, took, waiting=10))
        --workers auto: 2 workers on this machine now, 1 more (a run takes 2 of 4 cores)
        1
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        cores: int,
        notify: Callable[[str], None],
        monitor: GpuMonitor | None = None,
    ) -> None:
        self.monitor = monitor or GpuMonitor()
        self._cores, self._notify = cores, notify
        self._lock = threading.Lock()
        self._given_back: set[int] = set()
        self._shares: dict[str, Share] = {}
        for worker in workers:
            device = _device(worker)
            share = self._shares.setdefault(device, Share(f"GPU {device}" if device else "this machine", []))
            share.shared = bool(share.workers)
            share.workers.append(worker)

    def run_ended(self, worker: Worker, used: Json, waiting: float) -> list[Worker]:
        """Returns new workers for the device of a worker whose run has ended.

        The number is considered when each worker of the device has ended a run since it was last considered, so that
        what the last ones take is known.

        Args:
            worker: The worker.
            used: What its process takes, by `Worker.used_resources`.
            waiting: Number of runs that wait for another worker.
        """
        with self._lock:
            share = self._shares[_device(worker)]
            share.measured.add(worker)
            share.memory = max(share.memory, used.get("memory", 0))
            share.reserved = max(share.reserved, *used.get("gpus", {}).values(), 0)
            known = share.measured.issuperset(share.workers)
            if not known or waiting <= 0 or share.limit <= len(share.workers):
                return []
            try:
                decision = self._decide(share, used, waiting)
            except UnreadableError as error:
                share.limit, share.reason = len(share.workers), str(error)
                self._notify(f"--workers auto: no more workers on {share.name}: {share.reason}")
                return []
            if decision is None:
                return []
            share.measured.clear()
            share.reason = decision.reason
            new = [Worker(worker.program, worker.environment) for _ in range(decision.add)]
            share.workers += new
            if new:
                share.shared = True
                now = counted(len(share.workers), "worker")
                self._notify(f"--workers auto: {now} on {share.name} now, {len(new)} more ({share.reason})")
            return new

    def _decide(self, share: Share, used: Json, waiting: float) -> Decision | None:
        """Returns None where nothing has been measured yet.

        Raises:
            UnreadableError: A number cannot be measured.
        """
        if "problem" in used:
            raise UnreadableError(used["problem"])
        if len(used["gpus"]) > 1:
            raise UnreadableError("a run uses several GPUs; name those of the workers by --devices")
        gpu = None
        for uuid in used["gpus"]:
            if (seen := self.monitor.reading(uuid)) is None:
                return None
            gpu = Gpu(share.reserved + CUDA_MEMORY, seen.free, seen.total, seen.utilisation)
            self.monitor.forget(uuid)
        return decide(
            Measured(
                workers=len(share.workers),
                limit=share.limit,
                waiting=waiting,
                cores=self._cores // len(self._shares),
                threads=used["threads"],
                run=share.memory,
                free=used["free"] / len(self._shares),
                gpu=gpu,
            )
        )

    def gives_back(self, worker: Worker, number: int) -> bool:
        """Whether the run of a point, which found the memory of the GPU full, gets another try: once, if it shared it.

        The device then has one worker less.
        """
        with self._lock:
            share = self._shares[_device(worker)]
            if not share.shared or number in self._given_back:
                return False
            self._given_back.add(number)
            if worker in share.workers and len(share.workers) > 1:
                share.workers.remove(worker)
            share.limit, share.reason = len(share.workers), "more did not fit the memory of the GPU"
            now = counted(share.limit, "worker")
            self._notify(f"--workers auto: {now} on {share.name} from now on, as {share.reason}")
            return True

    def was_given_back(self, number: int) -> bool:
        """Whether the run of a point has been given another try."""
        return number in self._given_back

    def park(self, worker: Worker) -> None:
        """Ends the process of a worker that may not run, and waits until another one has no more runs."""
        share = self._shares[_device(worker)]
        if worker not in share.workers:
            worker.close()
            share.left.acquire()

    def leave(self, worker: Worker) -> None:
        """Notes that a worker has no more runs."""
        self._shares[_device(worker)].left.release()

    def summary(self) -> str:
        """Returns how many workers each device came to, and why not more."""
        parts = [f"{counted(len(s.workers), 'worker')} on {s.name} ({s.reason})" for s in self._shares.values()]
        return f"--workers auto came to {', '.join(parts)}"


def _device(worker: Worker) -> str:
    return worker.environment.get("CUDA_VISIBLE_DEVICES", "")
