"""How many workers a device gets by `--workers auto`: a rule on measured numbers."""

import math
from dataclasses import dataclass

MARGIN = 1.2
"""So many times the memory that a run takes must be free for each further run."""
FULLY_USED = 0.9
"""A GPU that computes for this part of the time would not do more with another worker."""
GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """What was measured on a GPU while its workers were running.

    Args:
        run: Bytes that a run takes at most.
        free: Bytes that were free at the fullest moment.
        total: Bytes that it has.
        utilisation: Mean part of the time in which it computed, from 0 to 1.
    """

    run: float
    free: float
    total: float
    utilisation: float


@dataclass(frozen=True)
class Measured:
    """What is known of a device when one of its runs has ended.

    Args:
        workers: Workers that it has.
        limit: Workers that it may have.
        waiting: Runs that wait for another worker.
        cores: Cores of the machine for this device.
        threads: Threads of a run.
        run: Bytes of the machine's memory that a worker takes at most.
        free: Bytes of the machine's memory that are free.
        gpu: What was measured on the GPU; None on a CPU.
    """

    workers: int
    limit: int
    waiting: float
    cores: int
    threads: int
    run: float
    free: float
    gpu: Gpu | None = None


@dataclass(frozen=True)
class Decision:
    """How many workers to add, and why not more."""

    add: int
    reason: str


def decide(measured: Measured) -> Decision:
    """Returns how many workers to add: as many as the strictest bound allows.

    A run on a GPU needs a core that feeds it, whatever the number of its threads. The workers of a GPU at most double
    at once, because its utilisation with more of them is an estimate.
    """
    m, gpu = measured, measured.gpu
    cores_of_run = m.threads if gpu is None else 1
    bounds = [
        (m.limit - m.workers, f"the limit is {m.limit}"),
        (m.cores // cores_of_run - m.workers, f"a run takes {cores_of_run} of {m.cores} cores"),
        (m.waiting, "no more runs wait"),
        (m.free / (MARGIN * m.run), f"a run takes {_gib(m.run)} of memory, and {_gib(m.free)} are free"),
    ]
    if gpu is not None:
        free = min(gpu.free, gpu.total - m.workers * gpu.run)  # not all runs are at their peak in the same moment
        wanted = math.ceil(m.workers * FULLY_USED / max(gpu.utilisation, FULLY_USED / 2)) - m.workers
        bounds += [
            (free / (MARGIN * gpu.run), f"a run takes {_gib(gpu.run)} of the GPU, and {_gib(free)} are free"),
            (wanted if gpu.utilisation < FULLY_USED else 0, f"the GPU is used {gpu.utilisation:.0%} of the time"),
        ]
    bound, reason = min(bounds, key=lambda pair: pair[0])
    return Decision(max(0, math.floor(bound)), reason)


def _gib(size: float) -> str:
    return f"{max(size, 0) / GIB:.1f} GiB"
