"""Jobs of Slurm that execute a command: submitted as an array, counted, and cancelled.

submitit writes the batch script, and requeues a job when its time is over or it is preempted.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import DelayedSubmission, FailedJobError, FailedSubmissionError
from submitit.helpers import Checkpointable

from genlab.runs.errors import UsageError, error_message
from genlab.runs.folder import write_atomically

SIGNAL_SECONDS = 120
"""A job is told to stop this long before its time is over."""
POLL_SECONDS = 0.1
STOP_SECONDS = 90.0
"""How long a job may take to write its checkpoints before its process is killed."""
TASK_VARIABLES = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
"""By these, Lightning would take a run for one of several processes that Slurm has started together."""
SHORT = {"-p": "partition", "-t": "time", "-A": "account", "-q": "qos", "-c": "cpus-per-task", "-C": "constraint"}
SHORT |= {"-G": "gpus", "-w": "nodelist", "-x": "exclude", "-J": "job-name", "-M": "clusters", "-d": "dependency"}
OURS = (
    *("array", "output", "error", "input", "open-mode", "signal", "requeue", "no-requeue", "nodes", "ntasks", "wrap"),
    *("ntasks-per-node", "chdir", "parsable", "wait", "test-only", "-N", "-n", "-a", "-o", "-e", "-i", "-D"),
)
"""Options of sbatch that a sweep sets itself."""


class Task(Checkpointable):
    """Executes a command in a job. The command is told to stop when the job must end, and begins again when it goes on.

    Args:
        command: The command.
        folder: The folder in which it is executed.
    """

    def __init__(self, command: Sequence[str], folder: str) -> None:
        self.command, self.folder = list(command), folder
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        signal.signal(signal.SIGTERM, self._end)  # by scancel, or by a preemption after which Slurm itself requeues
        environment = {name: value for name, value in os.environ.items() if name not in TASK_VARIABLES}
        self._process = subprocess.Popen(
            self.command,
            cwd=self.folder,
            env=environment,
            start_new_session=True,
            preexec_fn=_ignore_signals,  # noqa: PLW1509
        )
        while not self._has_ended():
            time.sleep(POLL_SECONDS)
        return self._process.wait()

    def checkpoint(self) -> DelayedSubmission:
        """Stops the command; returns what goes on after the job was requeued."""
        self._stop()
        return DelayedSubmission(Task(self.command, self.folder))

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._stop()
        sys.exit(128 + number)

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        until = time.monotonic() + STOP_SECONDS
        while not self._has_ended() and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        self._process.kill()

    def _has_ended(self) -> bool:
        """Whether the command has ended. A signal handler may ask while another call waits, unlike `Popen.wait`."""
        assert self._process is not None
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True


def _ignore_signals() -> None:
    """Lets a process ignore the signal that announces the end of a job, which Slurm sends to all of its processes."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def parse_options(text: str) -> dict[str, Any]:
    """Returns the options of sbatch in a text, by their long names; True is the value of one without a value.

    Raises:
        UsageError: It is no list of options, one of them is set by the sweep itself, or there is no time limit.

    Examples:
        >>> parse_options("--partition=gpu -t 4:00:00 --exclusive")
        {'partition': 'gpu', 'time': '4:00:00', 'exclusive': True}
    """
    options: dict[str, Any] = {}
    words = shlex.split(text)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name in OURS or name.removeprefix("--") in OURS:
            raise UsageError(f"--slurm: leave out {name}, which a sweep sets itself; --workers is the number of jobs")
        if not re.fullmatch(r"--[a-z][a-z-]+", name) and name not in SHORT:
            raise UsageError(f"--slurm: {word} is not an option of sbatch in its long form, such as --partition=gpu")
        if not equals and words and not words[0].startswith("-"):
            value = words.pop(0)
        options[SHORT.get(name, name.removeprefix("--"))] = value or True
    if "time" not in options:
        raise UsageError("--slurm: add --time, such as --time=4:00:00; a worker goes on in a new job after it")
    minutes(str(options["time"]))
    return options


def minutes(text: str) -> int:
    """Returns the minutes of a time limit of Slurm, at least one: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S.

    Raises:
        UsageError: It is none of these.

    Examples:
        >>> minutes("90"), minutes("4:00:00"), minutes("1-12")
        (90, 240, 2160)
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if found is None:
        raise UsageError(f"--slurm: --time={text} is no time limit of Slurm, such as 4:00:00 or 1-12:00:00")
    days, *parts = found.groups()
    first, second, third = (int(part or 0) for part in parts)
    if days is not None:
        seconds = int(days) * 86400 + first * 3600 + second * 60 + third
    elif parts[2] is not None:
        seconds = first * 3600 + second * 60 + third
    else:
        seconds = first * 60 + second
    return max(1, seconds // 60)


def submit(options: Mapping[str, Any], command: Sequence[str], count: int, folder: Path, name: str) -> str:
    """Submits an array of jobs that execute the same command in the current folder.

    Args:
        options: Options of sbatch.
        command: The command.
        count: Number of jobs.
        folder: Folder of their output.
        name: Name of the jobs.

    Returns:
        The id of the array.

    Raises:
        UsageError: There is no Slurm on this machine, or it refuses the jobs.
    """
    limit = minutes(str(options["time"]))
    delay = min(SIGNAL_SECONDS, limit * 15)
    is_new = not folder.exists()
    own = {"requeue": True, **options}
    srun = [f"--cpus-per-task={options['cpus-per-task']}"] if "cpus-per-task" in options else []
    try:
        executor = SlurmExecutor(folder, max_num_timeout=10**6)
        executor.update_parameters(
            job_name=f"genlab-{name}",
            time=limit,
            array_parallelism=count,
            signal_delay_s=delay,
            stderr_to_stdout=True,
            wckey=None,
            additional_parameters=own,
            srun_args=srun,
        )
        with executor.batch():
            jobs = [executor.submit(Task(command, os.getcwd())) for _ in range(count)]
        return jobs[0].job_id.partition("_")[0]
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError, OSError) as error:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise UsageError(f"--slurm: the jobs were not accepted ({_reason(error)})") from None


def require_slurm() -> None:
    """Raises UsageError if this machine has no commands of Slurm."""
    missing = [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]
    if missing:
        raise UsageError(f"--slurm: there is no {missing[0]} here; start the command on a login node of the cluster")


def alive(arrays: Sequence[str]) -> dict[str, str] | None:
    """Returns the state of each job of these arrays that waits or runs; None if Slurm does not answer."""
    if not arrays:
        return {}
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(arrays)}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        return {} if "Invalid job id" in answer.stderr else None
    return dict(line.split()[:2] for line in answer.stdout.splitlines() if len(line.split()) >= 2)


class Array:
    """The arrays of jobs that have been submitted for a sweep.

    Args:
        folder: Folder of their output, and of the file that names them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "jobs.json"
        self.ids: list[str] = json.loads(self._file.read_text(encoding="utf-8")) if self._file.is_file() else []
        self.ids = [array for array in self.ids if alive([array]) != {}]

    def add(self, array: str) -> None:
        self.ids.append(array)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file, json.dumps(self.ids))

    def states(self) -> dict[str, str]:
        """Returns the state of each job that waits or runs."""
        states = alive(self.ids)
        return dict.fromkeys(self.ids, "UNKNOWN") if states is None else states

    def cancel_waiting(self) -> None:
        """Cancels the jobs that have not begun, as no run is left for them."""
        subprocess.run(["scancel", "--state=PENDING", *self.ids], capture_output=True, check=False)

    def last_words(self) -> str:
        """Returns the file with the newest output of a job, and its last line."""
        files = sorted(self.folder.glob("*.out"), key=lambda file: file.stat().st_mtime)
        lines = files[-1].read_text(encoding="utf-8", errors="replace").strip().splitlines() if files else []
        return f"{files[-1]} ends with: {lines[-1]}" if lines else f"there is no output in {self.folder}"


def _reason(error: Exception) -> str:
    """Returns the message of sbatch in one line."""
    said = getattr(error, "stderr", None) or error.__cause__ or error
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    return " ".join(text.removeprefix("sbatch: error: ").split()) or error_message(error)
