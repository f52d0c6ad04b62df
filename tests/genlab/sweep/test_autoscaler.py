"""`--workers auto`: the rule on measured numbers, the readings, and the engine that follows them."""

import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from genlab.resources import used_resources
from genlab.runs.errors import UsageError
from genlab.sweep import gpu_monitor
from genlab.sweep.autoscaler import Autoscaler
from genlab.sweep.gpu_monitor import GpuMonitor, Sample, UnreadableError
from genlab.sweep.scaling import GIB, Gpu, Measured, decide
from genlab.sweep.worker import Outcome, Worker, _says_memory_is_full
from tests import HANG_SECONDS
from tests.genlab.sweep.test_engine import assert_each_ran_once, run, write_sweep

CPU = Measured(workers=1, limit=32, waiting=100, cores=16, threads=2, run=GIB, free=64 * GIB)
GPU = replace(CPU, threads=16, gpu=Gpu(run=2 * GIB, free=76 * GIB, total=80 * GIB, utilisation=0.3))


def gpu(workers: int = 1, **changes: float) -> Measured:
    assert GPU.gpu is not None
    return replace(GPU, workers=workers, gpu=replace(GPU.gpu, **changes))


@pytest.mark.parametrize(
    ("measured", "add", "reason"),
    [
        (CPU, 7, "a run takes 2 of 16 cores"),
        (replace(CPU, threads=32), 0, "a run takes 32 of 16 cores"),
        (replace(CPU, waiting=3), 3, "no more runs wait"),
        (replace(CPU, waiting=-1), 0, "no more runs wait"),
        (replace(CPU, free=5 * GIB), 4, "a run takes 1.0 GiB of memory, and 5.0 GiB are free"),
        (replace(CPU, free=1.19 * GIB), 0, "a run takes 1.0 GiB of memory, and 1.2 GiB are free"),
        (replace(CPU, cores=200), 31, "the limit is 32"),
        (gpu(), 1, "the GPU is used 30% of the time"),  # it doubles at most
        (gpu(utilisation=0.0), 1, "the GPU is used 0% of the time"),
        (gpu(4, utilisation=0.6), 2, "the GPU is used 60% of the time"),
        (gpu(4, utilisation=0.89), 1, "the GPU is used 89% of the time"),
        (gpu(4, utilisation=0.9), 0, "the GPU is used 90% of the time"),
        (gpu(4, free=2.3 * GIB), 0, "a run takes 2.0 GiB of the GPU, and 2.3 GiB are free"),
        (gpu(4, free=2.5 * GIB), 1, "a run takes 2.0 GiB of the GPU, and 2.5 GiB are free"),
        (gpu(4, total=9 * GIB), 0, "a run takes 2.0 GiB of the GPU, and 1.0 GiB are free"),  # the others' peaks
        (gpu(12), 4, "a run takes 1 of 16 cores"),
        (replace(gpu(4), limit=4), 0, "the limit is 4"),
        (replace(gpu(4), free=GIB), 0, "a run takes 1.0 GiB of memory, and 1.0 GiB are free"),
    ],
)
def test_the_strictest_bound_decides(measured: Measured, add: int, reason: str):
    decision = decide(measured)
    assert (decision.add, decision.reason) == (add, reason)


class Numbers(GpuMonitor):
    """Gives numbers in place of readings."""

    sample: Sample | None = None

    def reading(self, uuid: str) -> Sample | None:
        if uuid != "1f":
            raise UnreadableError("nvidia-smi does not tell memory and utilisation of this GPU")
        return self.sample


def took(*uuids: str, gib: float = 1.5) -> dict[str, Any]:
    return {"memory": GIB, "free": 64 * GIB, "threads": 1, "gpus": dict.fromkeys(uuids, gib * GIB)}


def test_each_gpu_gets_its_workers(capsys: pytest.CaptureFixture[str]):
    first = [Worker(Path("p.py"), {"CUDA_VISIBLE_DEVICES": device}) for device in "012"]
    numbers = Numbers()
    scaler = Autoscaler(first, 48, print, numbers)
    assert scaler.run_ended(first[0], took("1f"), 9) == []  # there is no sample yet
    numbers.sample = Sample(80 * GIB, 70 * GIB, 0.2)
    [second] = scaler.run_ended(first[0], took("1f"), 9)
    assert second.environment == first[0].environment
    assert scaler.run_ended(first[0], took("1f", gib=34), 9) == []  # it is not known what the second one takes
    assert scaler.run_ended(second, took("1f"), 9) == []  # another run like that of the first one has no room
    numbers.sample = Sample(800 * GIB, 70 * GIB, 0.2)
    assert scaler.run_ended(first[0], took("1f"), 0) == scaler.run_ended(first[0], took("1f"), 9) == []
    assert len(scaler.run_ended(second, took("1f"), 9)) == 1
    assert scaler.run_ended(first[1], took("MIG"), 9) == scaler.run_ended(first[1], took("MIG"), 9) == []
    assert scaler.run_ended(first[2], {"problem": "no numbers"}, 9) == []

    assert not scaler.gives_back(first[1], 7)  # it has the GPU for itself
    assert scaler.gives_back(second, 8) and scaler.was_given_back(8) and not scaler.gives_back(second, 8)
    assert "2 workers on GPU 0 (more did not fit the memory of the GPU), 1 worker on GPU 1 (nvidia" in scaler.summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "--workers auto: 2 workers on GPU 0 now, 1 more (the GPU is used 20% of the time)",
        "--workers auto: 3 workers on GPU 0 now, 1 more (a run takes 34.5 GiB of the GPU, and 70.0 GiB are free)",
        "--workers auto: no more workers on GPU 1: nvidia-smi does not tell memory and utilisation of this GPU",
        "--workers auto: no more workers on GPU 2: no numbers",
        "--workers auto: 2 workers on GPU 0 from now on, as more did not fit the memory of the GPU",
    ]


def test_nvidia_smi_is_asked_until_it_fails(monkeypatch: pytest.MonkeyPatch):
    answers = ["GPU-1f, 100, 60, 10\nGPU-2e, 100, 90, [N/A]", "GPU-1f, 100, 40, 50\n", "No devices were found"]

    def ask(command: object, **how: object) -> subprocess.CompletedProcess[str]:
        if len(answers) == 1:
            seen.append((monitor.reading("1f"), monitor.reading("1f")))
            monitor.forget("1f")
            seen.append(monitor.reading("1f"))
            with pytest.raises(UnreadableError, match="of this GPU"):
                monitor.reading("2e")
        return subprocess.CompletedProcess((), 0, answers.pop(0))

    seen: list[object] = []
    monkeypatch.setattr(gpu_monitor, "SECONDS_BETWEEN_SAMPLES", 0.0)
    monkeypatch.setattr(subprocess, "run", ask)
    monitor = GpuMonitor()
    with monitor:
        monitor._thread.join()
    assert seen == [(Sample(100 * 2**20, 40 * 2**20, pytest.approx(0.3)),) * 2, None]
    with pytest.raises(UnreadableError, match="does not tell memory and utilisation$"):
        monitor.reading("1f")
    monkeypatch.undo()
    monkeypatch.setattr(gpu_monitor, "COMMAND", ("no-such-program",))
    with GpuMonitor() as monitor:
        monitor._thread.join()
    with pytest.raises(UnreadableError, match="nvidia-smi does not work"):
        monitor.reading("1f")


def test_a_worker_tells_what_it_takes_and_that_a_gpu_was_full():
    used = used_resources()
    assert used["memory"] > 50e6 and used["free"] > 0 and used["threads"] == torch.get_num_threads()
    refusal = UsageError("the memory of the GPU is too small")
    refusal.__cause__ = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert _says_memory_is_full(refusal) and not _says_memory_is_full(UsageError("x"))


def test_the_engine_adds_workers_and_gives_runs_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The first run adds two workers. Two of the next three find the memory full, and one does so again."""
    together = threading.Barrier(3, timeout=HANG_SECONDS)
    begun: list[Worker] = []
    failures = {"x=2": 1, "x=3": 2}
    real = Worker.run

    def run_or_fail(worker: Worker, args: list[str], log: Path, **how: Any) -> Outcome:
        begun.append(worker)
        if len(begun) in (2, 3, 4):
            together.wait()
        if failures.get(log.stem, 0) == 0:
            return real(worker, args, log, **how)
        failures[log.stem] -= 1
        return Outcome("failed", error="the memory of the GPU is too small", memory_full=True)

    numbers = {"memory": GIB, "free": 64 * GIB, "threads": 1, "gpus": {}}
    monkeypatch.setattr(Worker, "run", run_or_fail)
    monkeypatch.setattr(Worker, "used_resources", lambda worker: numbers)
    monkeypatch.setattr("genlab.sweep.fleet.cores", lambda: 3)
    path = write_sweep(tmp_path, "model.x: {values: [1, 2, 3, 4, 5]}")
    assert run(path, "--workers=auto", "--no-report") == 1
    output = capsys.readouterr().out
    assert "3 workers on this machine now, 2 more (a run takes 1 of 3 cores)" in output
    assert output.count("too small; the run is back in the queue") == 2
    assert "x=3  failed: the memory of the GPU is too small" in output
    assert "came to 1 worker on this machine (more did not fit the memory of the GPU)" in output
    assert len(begun) == 7 and len(set(begun[:4])) == 3
    assert_each_ran_once(path, ["x=1", "x=2", "x=4", "x=5"])
