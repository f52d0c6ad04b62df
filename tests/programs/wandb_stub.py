"""A trivial program for `sweep.py agent`: --how is the way in which the run ends, --a is its score."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import wandb

from genlab.runs.folder import write_summary


@dataclass
class Progress:
    epoch: int
    epochs: int
    metrics: dict[str, float]


@dataclass
class Result:
    folder: Path
    metrics: dict[str, float]


def main(args: list[str], report: Callable[[Progress], bool]) -> Result:
    given = dict(arg[2:].split("=", 1) for arg in args if arg.startswith("--"))
    how = given.get("how", "finish")
    if how == "refuse":
        print("error: no such model")
        raise SystemExit(2)
    folder = Path("runs", "stub", f"a={given['a']}")
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    mode: Literal["offline", "online"] = "offline" if how == "offline" else "online"
    with wandb.init(project="its own", dir=folder, mode=mode, resume="allow", config={"pid": os.getpid()}) as run:
        print("run", run.id, "begins", flush=True)
        write_summary(folder, {"wandb_id": run.id})
        (folder / "checkpoints" / "last.ckpt").touch()
        run.log({"score": float(given["a"])})
        if how == "raise":
            raise RuntimeError("no luck")
        if how == "kill":
            time.sleep(2)  # the client sends the history each second
            os.kill(os.getpid(), signal.SIGKILL)
        seconds = {"pause": 1.0, "wait": 3.0, "wait long": 60.0}.get(how, 0.0)
        if f"--ckpt_path={folder}/checkpoints/last.ckpt" in args:
            seconds = 0.0
        begun, epoch = time.monotonic(), 0
        while time.monotonic() - begun < seconds:
            time.sleep(0.1)
            epoch += 1
            if report(Progress(epoch, 100, {})):
                break
    return Result(folder, {"score": float(given["a"])})
