"""The folder of a run: its name, its creation among concurrent runs, its lock, and its summary.json."""

import contextlib
import glob
import hashlib
import json
import math
import os
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from genlab.runs.errors import UsageError

WandbMode = Literal["auto", "online", "offline", "disabled"]
CompileMode = Literal["none", "default", "reduce-overhead", "max-autotune"]
LoggedCheckpoints = Literal["best", "last", "both", "none"]
RECORDED = (
    *("parameters", "seconds", "images_seen", "compile_seconds", "hardware", "data_fingerprint", "classifier"),
    "ended_early",
)
"""The entries of summary.json beside metrics and config that the summary of the run on W&B has, too."""
MAX_NAME_LENGTH = 150
MAX_NAME_BYTES = 200
LOCK_FILE = ".lock"
"""The file that is locked while a process trains in a run folder. A process that was killed leaves it there."""
LOST_AFTER = 15 * 60.0
"""Seconds without a sign of life after which a running run of another host counts as lost."""
RUN_FILES = re.compile(
    r"checkpoints|\.lock|media|wandb|tensorboard|mlflow|test|validate|predict|error\.txt"
    r"|(config\.yaml|summary\.json|(metrics|seconds)\.csv)"
    r"|\.(config\.yaml|summary\.json|(metrics|seconds)\.csv)\.\d+"  # a temporary file of a killed process
)
"""The names of all files and folders that a run writes into its folder."""


@dataclass
class RunOptions:
    """Where a run is stored, and how it is logged to Weights & Biases, TensorBoard and MLflow.

    Args:
        experiment: Name of the experiment, a folder below the root. By default the stem of the first config file.
        name: Name of the run, a folder below the experiment. By default the sorted overrides, such as
            depth=3,latent_dim=10, or `default` without overrides.
        root: Folder of all runs.
        overwrite: Replace an existing run of this name. Without it the new run's name gets the next free number.
        pictures: Draw the pictures in media/.
        wandb: Mode of W&B: online, offline or disabled. `auto` is WANDB_MODE, or without this variable online if an API
            key is configured, else offline.
        project: W&B project. By default WANDB_PROJECT, or genlab if this variable is not set.
        entity: W&B entity, a user or a team. By default WANDB_ENTITY, or that of the API key.
        group: W&B group. By default WANDB_RUN_GROUP, or the experiment.
        tags: W&B tags. By default WANDB_TAGS, separated by commas.
        notes: W&B notes. By default WANDB_NOTES.
        job_type: W&B job type. By default WANDB_JOB_TYPE.
        save_code: Save on W&B the main program and the Python files that it imported from the current folder. By
            default WANDB_SAVE_CODE, or false if this variable is not set.
        log_checkpoints: Checkpoints that W&B keeps as artifacts of type model when the fit has finished: best, last,
            both or none.
        tensorboard: Log metrics and pictures to TensorBoard, too: `tensorboard --logdir runs` shows all runs. It needs
            `pip install 'genlab[tensorboard]'`.
        mlflow: Log metrics and pictures to MLflow, too, in mlflow/mlflow.db of the run folder. It needs
            `pip install 'genlab[mlflow]'`.
        compile: Mode of torch.compile for the networks. Compiling takes up to minutes; the fit says at its end how long
            it took. `none` compiles nothing.
        fast_loop: Train with genlab's loop, which leaves out what does nothing in Lightning's loop. The results are the
            same; false trains with Lightning's own loop.
    """

    experiment: str | None = None
    name: str | None = None
    root: str = "runs"
    overwrite: bool = False
    pictures: bool = True
    wandb: WandbMode = "auto"
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: list[str] | None = None
    notes: str | None = None
    job_type: str | None = None
    save_code: bool | None = None
    log_checkpoints: LoggedCheckpoints = "none"
    tensorboard: bool = False
    mlflow: bool = False
    compile: CompileMode = "none"
    fast_loop: bool = True


def safe_name(text: str) -> str:
    """Turns a text into a folder name without separators or control characters; a long text is cut and gets a hash."""
    name = re.sub(r"[^\w.,=+@\[\]-]+", "_", text).strip(".") or "_"
    if len(name) <= MAX_NAME_LENGTH and len(name.encode()) <= MAX_NAME_BYTES:
        return name
    kept = name[: MAX_NAME_LENGTH - 9].encode()[: MAX_NAME_BYTES - 9].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def run_of_checkpoint(path: str | os.PathLike[str]) -> Path | None:
    """Returns the run folder that holds a checkpoint, as the path names it; None for one outside a run folder."""
    for file in (Path(path), Path(path).absolute(), Path(path).resolve()):
        folder = file.parent
        if folder.name == "checkpoints" and folder.parent.name and (folder.parent / "config.yaml").is_file():
            return folder.parent
    return None


def claim(folder: Path) -> Path:
    """Creates and returns `folder`, or the first of folder-2, folder-3, ... that does not exist.

    Raises:
        UsageError: The folder cannot be created.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10**6):
            numbered = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
            with contextlib.suppress(FileExistsError):
                numbered.mkdir()
                return numbered
    except OSError as error:
        raise UsageError(
            f"cannot create the run folder {folder} ({error.strerror or error}); choose another place with --run.root"
        ) from error
    raise UsageError(f"there are a million runs beside {folder}; choose another --run.name")


def missing_parents(folder: Path) -> list[Path]:
    """Returns the folders above this one that do not exist, the innermost first."""
    return [parent for parent in folder.parents if not parent.exists()]


def remove_empty(*folders: Path) -> None:
    """Removes folders, the innermost first, up to the first one that is not empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def last_run(folder: Path) -> Path | None:
    """Returns the newest of folder, folder-2, folder-3, ... that has a last.ckpt to resume from; None without one."""
    numbered = [other for other in folder.parent.glob(f"{glob.escape(folder.name)}*") if is_numbered(other, folder)]
    resumable = [run for run in numbered if (run / "checkpoints" / "last.ckpt").is_file()]
    return max(resumable, key=lambda run: int(run.name[len(folder.name) + 1 :] or 1), default=None)


def is_numbered(run: Path, folder: Path) -> bool:
    """Returns whether `run` is one of folder, folder-2, folder-3, ..."""
    rest = run.name.removeprefix(folder.name)
    same_place = run.parent.resolve() == folder.parent.resolve() and run.name.startswith(folder.name)
    return same_place and (rest == "" or re.fullmatch(r"-\d+", rest) is not None)


def move_aside(folder: Path) -> Path | None:
    """Renames the folder of a run that will be overwritten, so that it can be deleted or restored later.

    Returns:
        The new path; None if the folder does not exist.

    Raises:
        UsageError: The folder holds a file that no run wrote, or its run is still running.
    """
    if not folder.exists():
        return None
    foreign = sorted(entry.name for entry in folder.iterdir() if not RUN_FILES.fullmatch(entry.name))
    if foreign:
        raise UsageError(
            f"--run.overwrite would delete {folder / foreign[0]}, which no run wrote; move it elsewhere first"
        )
    aside = folder.with_name(f".{folder.name}.replaced-{os.getpid()}")
    lock = lock_run(folder)
    try:
        folder.rename(aside)
        (aside / LOCK_FILE).unlink(missing_ok=True)
    finally:
        unlock_run(lock)
    return aside


def lock_run(folder: Path) -> FileLock:
    """Locks a run folder, in which one process at a time trains.

    The lock ends with `unlock_run`, or when the process ends, in whatever way. On a file system without locks, only the
    summary of the run tells whether another process of this host trains there.

    Raises:
        UsageError: Another process trains there.
    """
    lock = FileLock(folder / LOCK_FILE, timeout=0, thread_local=False)
    summary = read_summary(folder) or {}
    try:
        lock.acquire()
        return lock
    except Timeout:
        pass
    except (OSError, NotImplementedError):
        if not is_running(summary):
            return lock
    owner = f" (process {summary['pid']} on {summary['host']})" if "pid" in summary else ""
    raise UsageError(
        f"the run in {folder} is still running{owner}; stop it first, or give the new run another --run.name"
    )


def unlock_run(lock: FileLock) -> None:
    Path(lock.lock_file).unlink(missing_ok=True)  # before others can lock it
    lock.release()


def is_running(summary: Mapping[str, Any]) -> bool:
    """Returns whether a run is being executed by another process on this host."""
    here = summary.get("state") == "running" and summary.get("host") == socket.gethostname()
    return here and is_alive(summary.get("pid"))


def why_lost(folder: Path, summary: Mapping[str, Any]) -> str | None:
    """Returns why a run that is marked as running is lost; None for a run that is not lost.

    The process id tells on the host of the run. On another host the sign of life tells: the time at which the process
    last wrote or touched summary.json.
    """
    if summary.get("state") != "running":
        return None
    host = summary.get("host", "an unknown host")
    if host == socket.gethostname():
        alive = summary.get("pid") == os.getpid() or is_alive(summary.get("pid"))
        return None if alive else "its process no longer exists"
    silent = time.time() - (folder / "summary.json").stat().st_mtime
    if silent < LOST_AFTER:
        return None
    return f"its process on {host} gave its last sign of life {silent / 60:.0f} minutes ago"


def show_life(folder: Path) -> None:
    """Touches the summary of a run, which tells other hosts that its process exists."""
    with contextlib.suppress(OSError):
        os.utime(folder / "summary.json")


def is_alive(pid: object) -> bool:
    """Returns whether another process with this id runs on this host. A zombie process does not count."""
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return True  # not Linux
    return status.rpartition(")")[2].split()[0] != "Z"


def write_atomically(path: Path, contents: str | bytes) -> None:
    """Writes a file, a text as UTF-8, under a temporary name, then renames it, so that no reader sees a part of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(part, "wb") as file:
            file.write(contents.encode() if isinstance(contents, str) else contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    write_atomically(folder / "summary.json", json.dumps(jsonable(summary), indent=2, allow_nan=False) + "\n")


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Returns the summary of a run; None if it does not exist or cannot be read."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) else None


def is_finished(folder: Path) -> bool:
    """Returns whether a run has finished; one without a summary, whose files were put there, counts as finished."""
    return (read_summary(folder) or {}).get("state", "finished") == "finished"


def jsonable(value: Any) -> Any:
    """Converts a value to plain JSON. Infinity and NaN, which JSON does not have, become the texts inf and nan."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
