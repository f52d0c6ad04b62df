"""What each job of Slurm executes: a command that is told to stop when Slurm needs the machine, and begins again later.

This module is sent to the jobs whole, and imports nothing of the project.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

TIME_IS_OVER = signal.SIGUSR2
"""The signal that submitit asks Slurm to send before the time is over or, on some clusters, before a preemption."""
OF_THE_STEP = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
"""Variables by which Lightning would take a job for one process of a training on several machines."""
POLL_SECONDS = 0.1


class Task:
    """Executes a command in a job.

    Args:
        command: The command.
        environment: Variables of its environment in addition to those of the job.
        per_gpu: Option that is added with the job's GPUs if there are several; None adds nothing.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], per_gpu: str | None = None) -> None:
        self.command, self.environment, self.per_gpu = list(command), dict(environment), per_gpu

    def __call__(self) -> None:
        received: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
        signal.signal(TIME_IS_OVER, signal.SIG_IGN)  # some clusters send it to all processes: those begun now ignore it
        process = subprocess.Popen(self._full_command(), env=self._full_environment())
        signal.signal(TIME_IS_OVER, lambda number, _: received.append(number))
        told = False
        while process.poll() is None:
            if received and not told:
                process.terminate()
                told = True
            time.sleep(POLL_SECONDS)
        if told and process.returncode and (TIME_IS_OVER in received or _is_preempted()):
            subprocess.run(["scontrol", "requeue", _job()], check=False)
        if process.returncode:
            sys.exit(process.returncode if process.returncode > 0 else 128 - process.returncode)

    def _full_command(self) -> list[str]:
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return [*self.command, *([f"{self.per_gpu}={gpus}"] if self.per_gpu and "," in gpus else [])]

    def _full_environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name not in OF_THE_STEP} | self.environment


def _is_preempted() -> bool:
    """Whether this is the grace time of a preemption. Slurm does not requeue a job that ends in it by itself.

    Without a grace time, Slurm requeues a preempted job itself. A job that the user cancels is not preempted.
    """
    shown = subprocess.run(["scontrol", "show", "job", _job()], capture_output=True, text=True, check=False).stdout
    return re.search(r"\bPreemptTime=\d", shown) is not None


def _job() -> str:
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return os.environ["SLURM_JOB_ID"] if array is None else f"{array}_{index}"
