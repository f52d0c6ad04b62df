"""A program for sweeps in tests: it writes a run folder like train.py, with (x - 3)^2 as `test/loss`, in no time.

Options: --x and --y, numbers; --epochs; --seconds, the duration; --fail, --die and --hang, the value of x at which it
fails, kills its process or hangs; --deaf, the value of x at which it hangs and ignores SIGTERM; --crash and --orphan,
the value of x at which it kills its process after a checkpoint, or its parent, unless it continues a run;
--weights, a file that it reads.
"""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from genlab.runs.config import option, overridden_values, run_folder
from genlab.runs.errors import UsageError
from genlab.runs.folder import RunOptions, claim, read_summary, write_summary

KNOWN = (
    "x",
    "y",
    "epochs",
    "seconds",
    "fail",
    "die",
    "hang",
    "deaf",
    "crash",
    "orphan",
    "weights",
    "run.root",
    "run.experiment",
    "run.name",
)
KNOWN += ("run.overwrite", "run.project", "run.entity", "ckpt_path", "seed_everything", "model.x", "model.y")


@dataclass
class Result:
    folder: Path
    metrics: dict[str, float]


@dataclass
class Progress:
    epoch: int
    epochs: int
    metrics: dict[str, float]


def check(args: list[str]) -> str | None:
    unknown = [arg for arg in args if arg.startswith("--") and arg[2:].split("=")[0] not in KNOWN]
    return f"unrecognized arguments: {unknown[0]}" if unknown else None


def logged(args: list[str]) -> dict[str, list[str]]:
    return {"epoch": ["val/loss"], "end": ["test/loss", "val/loss"]}


def main(args, report):
    given = {key: float(value) for key, value in overridden_values(args).items() if isinstance(value, int | float)}
    x = given.get("x", given.get("model.x", 0.0))
    options = RunOptions(root=option(args, "run.root") or "runs", experiment=option(args, "run.experiment"))
    folder = run_folder(args, options, {"model": "", "data": "", **overridden_values(args)})
    state = (read_summary(folder) or {}).get("state")
    planned = folder
    note(planned, "again" if state == "finished" else "begin")
    folder = claim(planned) if not planned.exists() else planned
    if (checkpoint := option(args, "ckpt_path")) is not None:
        folder = Path(checkpoint).parents[1]
        assert Path(checkpoint).is_file()
        note(planned, f"resume-in-{folder.name}")
    summary = {"state": "running", "metrics": {}, "config": given, "seconds": given.get("seconds", 0.0)}
    summary |= {"pid": os.getpid(), "host": os.uname().nodename}
    write_summary(folder, summary)
    try:
        if checkpoint is None:
            break_down(folder, x, given)
        if (weights := option(args, "weights")) is not None:
            Path(weights).read_bytes()
        metrics = train(x, given, report)
    except Exception:
        write_summary(folder, summary | {"state": "failed", "error": "planned"})
        raise
    except BaseException:
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / "last.ckpt").touch()
        write_summary(folder, summary | {"state": "killed"})
        raise
    write_summary(folder, summary | {"state": "finished", "metrics": metrics})
    note(planned, "end")
    return Result(folder, metrics)


def break_down(folder, x, given):
    if given.get("crash") == x:
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / "last.ckpt").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if given.get("orphan") == x:
        with signals():
            os.kill(os.getppid(), signal.SIGKILL)
            while True:  # a signal that comes at the beginning of a long sleep would not end it
                time.sleep(0.01)


def train(x, given, report):
    if given.get("fail") == x:
        raise UsageError("x is not allowed")
    if given.get("die") == x:
        os.kill(os.getpid(), signal.SIGKILL)
    if given.get("deaf") == x:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    loss = (x - 3) ** 2
    epochs = int(given.get("epochs", 1))
    with signals():
        for epoch in range(1, epochs + 1):
            print("epoch", epoch, flush=True)
            time.sleep(1000 if given.get("hang") == x else given.get("seconds", 0.0) / epochs)
            if report(Progress(epoch, epochs, {"val/loss": loss})):
                break
    return {"val/loss": loss, "test/loss": loss}


class SIGTERMException(SystemExit):
    """Has the name of Lightning's exception."""


@contextlib.contextmanager
def signals():
    def stop(number, frame):
        raise SIGTERMException

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def note(folder: Path, event: str) -> None:
    """Appends a line for an event to calls.txt, in one write, so that several processes can do so."""
    with open(folder.parent / "calls.txt", "a") as file:
        file.write(f"{event} {os.getpid()} {folder.name}\n")
