"""The folder that a run leaves: its name, its claim against other runs, and its summary."""

import contextlib
import glob
import hashlib
import json
import math
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from genlab.runs.errors import UsageError

WandbMode = Literal["auto", "online", "offline", "disabled"]
LONGEST_NAME = 150
WRITTEN = re.compile(
    r"checkpoints|media|wandb|test|validate|predict|error\.txt"
    r"|(config\.yaml|summary\.json|metrics\.csv)"
    r"|\.(config\.yaml|summary\.json|metrics\.csv)\.\d+"  # being written when a process was killed
)
"""The names of all that a run folder may hold."""


@dataclass
class RunOptions:
    """Where a run goes and who is told of it.

    Args:
        experiment: folder below root; by default the stem of the first config file.
        name: folder below the experiment; by default the overrides, sorted, or `default`.
        root: folder of all runs.
        overwrite: replace a run that is there already, instead of taking the next free number.
        pictures: draw the pictures in media/.
        wandb: online, offline or disabled; auto is online where an API key is configured, else offline.
        project: of W&B.
        group: of W&B; by default the experiment.
        tags: of W&B.
    """

    experiment: str | None = None
    name: str | None = None
    root: str = "runs"
    overwrite: bool = False
    pictures: bool = True
    wandb: WandbMode = "auto"
    project: str = "genlab"
    group: str | None = None
    tags: list[str] = field(default_factory=list)


def safe_name(text: str) -> str:
    """`text` as the name of one folder: no separators or control characters, not too long, still unique."""
    name = re.sub(r"[^\w.,=+@\[\]-]+", "_", text).strip(".") or "_"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def run_of_checkpoint(path: str | os.PathLike[str]) -> Path | None:
    """The run folder that a checkpoint lies in, if it lies in one."""
    folder = Path(path).resolve().parent
    inside = folder.name == "checkpoints" and (folder.parent / "config.yaml").is_file()
    return folder.parent if inside else None


def claim(folder: Path) -> Path:
    """Makes `folder`, or the first of folder-2, folder-3, ... that nobody has.

    Raises:
        UsageError: it cannot be made.
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
            f"cannot make the run folder {folder} ({error.strerror or error}); choose another place with --run.root"
        ) from error
    raise UsageError(f"there are a million runs beside {folder}; choose another --run.name")


def last_run(folder: Path) -> Path | None:
    """The newest of folder, folder-2, folder-3, ... that has a last.ckpt to go on from."""
    numbered = [other for other in folder.parent.glob(f"{glob.escape(folder.name)}*") if is_numbered(other, folder)]
    able = [run for run in numbered if (run / "checkpoints" / "last.ckpt").is_file()]
    return max(able, key=lambda run: int(run.name[len(folder.name) + 1 :] or 1), default=None)


def is_numbered(run: Path, folder: Path) -> bool:
    """Whether `run` is folder, folder-2, folder-3, ..."""
    rest = run.name.removeprefix(folder.name)
    same_place = run.parent.resolve() == folder.parent.resolve() and run.name.startswith(folder.name)
    return same_place and (rest == "" or re.fullmatch(r"-\d+", rest) is not None)


def set_aside(folder: Path) -> Path | None:
    """Moves a run that is to be overwritten out of the way, to be deleted or put back; None where there is none.

    Raises:
        UsageError: the folder holds something that no run wrote, or a run that is still going on.
    """
    if not folder.exists():
        return None
    foreign = sorted(entry.name for entry in folder.iterdir() if not WRITTEN.fullmatch(entry.name))
    if foreign:
        raise UsageError(f"--run.overwrite would delete {folder / foreign[0]}, which no run wrote; move it away first")
    summary = read_summary(folder) or {}
    if is_going_on(summary):
        raise UsageError(f"the run in {folder} is still going on (process {summary['pid']}); stop it first")
    aside = folder.with_name(f".{folder.name}.replaced-{os.getpid()}")
    folder.rename(aside)
    return aside


def is_going_on(summary: Mapping[str, Any]) -> bool:
    """Whether the run is in the hands of another process of this host that is alive."""
    here = summary.get("state") == "running" and summary.get("host") == socket.gethostname()
    return here and is_alive(summary.get("pid"))


def is_alive(pid: object) -> bool:
    """Whether another process of this number runs here; one that has ended and was not waited for does not."""
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


def write_whole(path: Path, text: str) -> None:
    """Writes a text file so that no reader ever sees half of it, and a full disk leaves the old one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    write_whole(folder / "summary.json", json.dumps(_jsonable(summary), indent=2, allow_nan=False) + "\n")


def read_summary(folder: Path) -> dict[str, Any] | None:
    """A run's summary, or None where there is none that can be read."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) else None


def _jsonable(value: Any) -> Any:
    """Plain JSON: infinities and NaN, which JSON has not, become their names."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
