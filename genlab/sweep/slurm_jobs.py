"""Jobs of Slurm that execute a command: their options, how they are submitted as an array, and which are there."""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError

from genlab.runs.errors import UsageError, error_message
from genlab.sweep import slurm_task
from genlab.sweep.slurm_task import Task
from genlab.words import counted

SIGNAL_SECONDS = 120
"""A job is told to stop this long before its time is over, or after three quarters of a short time."""
SHORT = {"-p": "partition", "-t": "time", "-A": "account", "-q": "qos", "-c": "cpus-per-task", "-C": "constraint"}
SHORT |= {"-G": "gpus", "-w": "nodelist", "-x": "exclude", "-J": "job-name", "-d": "dependency", "-N": "nodes"}
SHORT |= {"-n": "ntasks", "-a": "array", "-o": "output", "-e": "error", "-D": "chdir", "-M": "clusters"}
ONE = ("nodes", "ntasks", "ntasks-per-node")
OURS = ("array", "output", "error", "open-mode", "signal", "requeue", "no-requeue", "chdir", "wrap", "wait", "parsable")
"""Options that are set here, or that change what sbatch does."""
Options = Mapping[str, str | bool]


@dataclass(frozen=True)
class Job:
    """A job that waits or runs: its id, such as 12_3, Slurm's short name of its state, and why it waits."""

    name: str
    state: str
    reason: str

    @property
    def array(self) -> str:
        return self.name.partition("_")[0]


def parse_options(text: str) -> dict[str, str | bool]:
    """Returns the options of sbatch in a text, by their long names; True is the value of one without a value.

    Raises:
        UsageError: It is no list of options, or one of them is set by the sweep itself.

    Examples:
        >>> parse_options("--partition=gpu -t 4:00:00 --nodes=1 --exclusive")
        {'partition': 'gpu', 'time': '4:00:00', 'exclusive': True}
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--slurm {text!r}: {error}") from None
    options: dict[str, str | bool] = {}
    while words:
        word = words.pop(0)
        option, _, value = word.partition("=")
        name = SHORT.get(option, option.removeprefix("--"))
        if not re.fullmatch(r"--[a-z][a-z0-9-]+", option) and option not in SHORT:
            raise UsageError(f"--slurm: write {word} as a long option of sbatch, such as --partition=gpu")
        if not value and words and not words[0].startswith("-"):
            value = words.pop(0)
        if option in SHORT and not value:
            raise UsageError(f"--slurm: {option} needs a value")
        if name in ONE and value != "1":
            raise UsageError(f"--slurm: leave out {option}: each job is one process, and --workers is their number")
        if name in (*OURS, "clusters"):
            raise UsageError(f"--slurm: leave out {option}, which sweep.py sets itself, or cannot use")
        if name not in ONE:
            options[name] = value or True
    return options


def seconds(limit: str) -> int | None:
    """Returns the seconds of a time limit of Slurm: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S; None for any other text.

    Examples:
        >>> seconds("90"), seconds("4:00:00"), seconds("1-12"), seconds("UNLIMITED")
        (5400, 14400, 129600, None)
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", limit)
    if found is None:
        return None
    days, *parts = [int(part) for part in found.groups("0")]
    if found[1] is None and found[4] is None:  # without days and hours
        parts = [0, *parts[:2]]
    return days * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2]


def require_slurm() -> None:
    """Checks that this machine has the commands of Slurm.

    Raises:
        UsageError: It has not.
    """
    if missing := [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]:
        raise UsageError(f"--slurm: there is no {missing[0]} on this machine; give the command on a login node")


class Array:
    """The jobs of one sweep, and the folder of their scripts and output.

    Args:
        folder: The folder. Slurm tells for each job where its script is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def jobs(self) -> list[Job]:
        """Returns the jobs that wait or run.

        Raises:
            UsageError: Slurm does not answer.
        """
        command = ["squeue", f"--user={os.getuid()}", "--array", "--noheader", "--format=%i|%t|%r|%o"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise UsageError(f"--slurm: squeue fails ({_one_line(answer.stderr)}); give the same command again later")
        lines = [line.split("|", 3) for line in answer.stdout.splitlines()]
        return [Job(*line[:3]) for line in lines if Path(line[3]).parent == self.folder]

    def submit(self, task: Task, options: Options, count: int, name: str) -> None:
        """Submits an array of jobs, in the current folder.

        Args:
            task: What each of them executes.
            options: Options of sbatch.
            count: Number of jobs.
            name: Name of the jobs.

        Raises:
            UsageError: Slurm does not accept them.
        """
        before = set(self.folder.iterdir()) if self.folder.exists() else None
        cloudpickle.register_pickle_by_value(slurm_task)
        limit = seconds(str(options.get("time", "")))
        executor = SlurmExecutor(self.folder)
        executor.update_parameters(
            job_name=f"genlab-{name}",
            time=None,
            wckey=None,
            array_parallelism=count,
            signal_delay_s=min(SIGNAL_SECONDS, limit // 4) if limit else SIGNAL_SECONDS,
            stderr_to_stdout=True,
            srun_args=[f"--{key}={options[key]}" for key in ("cpus-per-task",) if key in options],
            additional_parameters={"requeue": True, **{key.replace("-", "_"): options[key] for key in options}},
        )
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit prints the message of sbatch, too
                executor.submit_array([task] * count)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            for file in set(self.folder.iterdir()).difference(before or ()):
                file.unlink()
            if before is None:
                self.folder.rmdir()
            raise UsageError(f"--slurm: the jobs are not accepted ({_one_line(error_message(error))})") from None

    def cancel_waiting(self, jobs: list[Job]) -> None:
        """Cancels those of the jobs that have not begun."""
        waiting = [job.name for job in jobs if job.state == "PD"]
        if waiting:
            subprocess.run(["scancel", "--state=PENDING", *waiting], capture_output=True, check=False)

    def last_words(self) -> str:
        """Returns where the newest output of a job is, and its last line."""
        files = sorted(self.folder.glob("*.out"), key=lambda file: file.stat().st_mtime)
        text = files[-1].read_text(encoding="utf-8", errors="replace") if files else ""
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("srun: ")]
        if not lines:
            return f"they wrote nothing into {self.folder}, which all nodes must see"
        return f"{files[-1]} ends with: {lines[-1].strip()}"


def describe(jobs: list[Job]) -> str:
    """Returns the numbers of jobs, as in `2 jobs run, 3 wait (Priority)`."""
    waiting = Counter(job.reason for job in jobs if job.state == "PD")
    running = len(jobs) - waiting.total()
    text = f"{counted(running, 'job')} run{'s' if running == 1 else ''}"
    return text + (f", {waiting.total()} wait ({', '.join(waiting)})" if waiting else "")


def _one_line(text: str) -> str:
    return " ".join(text.replace("sbatch: error: ", "").replace("squeue: error: ", "").split())
