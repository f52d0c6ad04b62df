"""Free memory and utilisation of the GPUs, as nvidia-smi tells them."""

import subprocess
import threading
from collections import defaultdict, deque
from types import TracebackType
from typing import NamedTuple, Self

COMMAND = ("nvidia-smi", "--query-gpu=uuid,memory.total,memory.free,utilization.gpu", "--format=csv,noheader,nounits")
SECONDS_BETWEEN_SAMPLES = 1.0
MOST_SAMPLES = 600
TIMEOUT = 20.0
MIB = 2**20


class Sample(NamedTuple):
    """Total and free bytes of a GPU, and the part of the last moments in which it computed."""

    total: float
    free: float
    utilisation: float


class UnreadableError(Exception):
    """nvidia-smi cannot be asked about a GPU; the message says why."""


class GpuMonitor:
    """Asks nvidia-smi each second about all GPUs, in a thread, until the context ends or nvidia-smi fails."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[Sample]] = defaultdict(lambda: deque(maxlen=MOST_SAMPLES))
        self._problem: str | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()

    def reading(self, uuid: str) -> Sample | None:
        """Returns the least free memory and the mean utilisation of a GPU since `forget`; None before the first sample.

        Raises:
            UnreadableError: There will be none.
        """
        with self._lock:
            if self._problem is not None:
                raise UnreadableError(self._problem)
            if self._samples and uuid not in self._samples:  # as with MIG
                raise UnreadableError("nvidia-smi does not tell memory and utilisation of this GPU")
            samples = list(self._samples.get(uuid, ()))
        if not samples:
            return None
        mean = sum(sample.utilisation for sample in samples) / len(samples)
        return Sample(samples[-1].total, min(sample.free for sample in samples), mean)

    def forget(self, uuid: str) -> None:
        """Begins a new measurement of a GPU."""
        with self._lock:
            if uuid in self._samples:
                self._samples[uuid].clear()

    def _watch(self) -> None:
        while True:
            try:
                done = subprocess.run(  # noqa: S603
                    COMMAND, capture_output=True, text=True, timeout=TIMEOUT, check=True
                )
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                with self._lock:
                    self._problem = f"nvidia-smi does not work ({error})"
                return
            with self._lock:
                samples = parse(done.stdout)
                for uuid, sample in samples.items():
                    self._samples[uuid].append(sample)
                if not samples:
                    self._problem = "nvidia-smi does not tell memory and utilisation"
                    return
            if self._ended.wait(SECONDS_BETWEEN_SAMPLES):
                return


def parse(text: str) -> dict[str, Sample]:
    """Returns a sample of each GPU, by its uuid, for which nvidia-smi tells all numbers.

    >>> parse("GPU-1f, 81559, 80000, 35\\nGPU-2e, 81559, 80000, [N/A]")
    {'1f': Sample(total=85520809984.0, free=83886080000.0, utilisation=0.35)}
    """
    found = {}
    for line in text.splitlines():
        try:
            uuid, *numbers = line.split(",")
            total, free, utilisation = map(float, numbers)
        except ValueError:
            continue
        found[uuid.strip().removeprefix("GPU-")] = Sample(total * MIB, free * MIB, utilisation / 100)
    return found
