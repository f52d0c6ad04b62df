"""Runs a sweep in this process: imports and data once, many runs."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.config import given_values, option, run_home
from harness.definition import Definition
from harness.run_folder import RunOptions, read_summary

BAD_COMMAND_LINE = 2
Train = Callable[[list[str]], Any]


@dataclass
class Tally:
    """How a sweep went."""

    finished: int = 0
    kept: int = 0
    failed: int = 0


def run_grid(sweep: Definition, train: Train, root: str = "runs") -> Tally:
    """Runs every point of the grid that is not finished yet; a run that fails is reported, and the rest go on.

    Args:
        train: train.main, given the arguments of one run.
        root: folder of all runs.
    """
    console = Console(highlight=False)
    tally = Tally()
    began = time.monotonic()
    for number, point in enumerate(sweep.points(), start=1):
        args = sweep.arguments(point)
        if option(args, "run.experiment") is None:
            args.append(f"--run.experiment={sweep.name}")
        folder = _home(args, point, root)
        label = f"[{number}/{len(sweep)}] {folder.name}"
        state = (read_summary(folder) or {}).get("state")
        if state == "finished":
            tally.kept += 1
            console.print(f"{label}: finished before, kept", markup=False)
            continue
        console.print(f"{label}  {_time_left(began, tally, len(sweep) - number + 1)}", style="bold", markup=False)
        try:
            train([*args, f"--run.root={root}", f"--run.overwrite={folder.exists()}"])
            tally.finished += 1
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and error.code != BAD_COMMAND_LINE:
                raise  # a signal, not this run's own fault
            tally.failed += 1
            _report_failure(console, folder, error)
    return tally


def _home(args: list[str], point: dict[str, Any], root: str) -> Path:
    """Where train.py will put the run: the same rule, on the values as the sweep gives them."""
    options = RunOptions(root=root, experiment=option(args, "run.experiment"))
    return run_home(args, options, {"model": "", "data": "", **given_values(args), **point})


def _time_left(began: float, tally: Tally, left: int) -> str:
    if not tally.finished:
        return ""
    seconds = (time.monotonic() - began) / (tally.finished + tally.failed) * left
    return f"(about {seconds / 60:.0f} min left)" if seconds > 90 else f"(about {seconds:.0f} s left)"


def _report_failure(console: Console, folder: Path, error: BaseException) -> None:
    console.print(f"failed: {type(error).__name__}: {error}", style="red", markup=False)
    if folder.is_dir():
        (folder / "error.txt").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
