"""Trains, validates, tests or predicts with any model on any data: the work of train.py."""

import contextlib
import errno
import io
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from datamodules import DataError
from genlab.cli.lightning_cli import GenlabCLI, Parsed
from genlab.cli.parser import one_line, quiet
from genlab.cli.prepare import prepare_args
from genlab.cli.run_setup import Report
from genlab.interrupts import say_stopped
from genlab.processes import first_process
from genlab.runs.errors import UsageError
from genlab.runs.progress import TrainingProgress
from lit_models.common.checkpoints import CheckpointError

# Adam's averages of a weight that no longer learns decay into subnormal numbers, on which a CPU is many times slower.
# Set before torch starts its threads, which inherit it.
torch.set_flush_denormal(True)
# Lightning makes PyTorch look for a GPU through NVML. Without a GPU, each step of Adam would load that library anew.
if not torch.cuda.is_available():
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"

BAD_INPUT = (UsageError, DataError, CheckpointError, MisconfigurationException)


@dataclass
class Result:
    """What a command did: its run folder, and the numbers that it measured."""

    folder: Path
    metrics: dict[str, float]


def main(args: list[str] | None = None, report: Report | None = None) -> Result:
    """Runs one command, such as ["fit", "--config", "configs/autoencoder_mnist.yaml", "--model.latent_dim=5"].

    May be called any number of times in one process: each run starts from its own seed and leaves nothing behind.

    Args:
        args: Arguments of the command line; those of this process by default.
        report: Is told of each epoch's and each validation's end; training ends there when its answer is true.

    Raises:
        UsageError, DataError, CheckpointError, MisconfigurationException: bad input; one line says what to do.
        SystemExit: with status 2 for a command line that cannot be parsed, 0 after --help.
        SIGTERMException: stopped by a signal, after last.ckpt was written.
    """
    given = sys.argv[1:] if args is None else list(args)
    if first_process():
        os.environ.pop("PL_GLOBAL_SEED", None)  # an earlier run's seed must not become that of a run without one
    with quiet():
        cli = GenlabCLI(prepare_args(given), report)
    kept = {} if cli.run.record is None else cli.run.record.summary["metrics"]
    return Result(cli.run.folder, kept | cli.metrics)


def check(args: list[str]) -> str | None:
    """What is wrong with a command line, in one line; nothing is built, run or written."""
    said = io.StringIO()
    try:
        with quiet(), contextlib.redirect_stderr(said):
            GenlabCLI(prepare_args(list(args)), parse_only=True)
    except Parsed:
        return None
    except BAD_INPUT as error:
        return one_line(str(error))
    except SystemExit:
        return re.sub(r"^error: | \(see .*\)$", "", said.getvalue().strip()) or "it cannot be parsed"
    return None


def differing_options(args: list[str], recorded: dict[str, Any]) -> list[str]:
    """The options in which a fit with these arguments differs from a run; nothing is built, run or written.

    Args:
        args: Arguments of the command line.
        recorded: The config in the summary of the run.

    Raises:
        As `main`.
    """
    try:
        with quiet():
            GenlabCLI(prepare_args(list(args)), parse_only=True)
    except Parsed as parsed:
        return parsed.cli.differing_options(recorded)
    raise AssertionError("a command line that is only parsed ends in Parsed")


def logged(args: list[str]) -> dict[str, list[str]]:
    """The names of the metrics that a fit logs: each `epoch`, and those it has at its `end`; found by one step of it.

    Raises:
        As `main`.
    """
    each: set[str] = set()

    def note(progress: TrainingProgress) -> bool:
        each.update(progress.metrics)
        return False

    result = main([*args, "--trainer.fast_dev_run=true"], note)
    return {"epoch": sorted(each), "end": sorted(result.metrics)}


def command(args: list[str] | None = None) -> int:
    """`main` for the shell: exit status 2 for bad input, 1 for a full disk, 130 after Ctrl-C, 143 after SIGTERM."""
    try:
        main(args)
    except BAD_INPUT as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print("error: the disk is full; make room and run the same command with --ckpt_path last", file=sys.stderr)
        return 1
    except SIGTERMException:
        print("stopped; a fit goes on from here by the same command with --ckpt_path last", file=sys.stderr)
        return 143
    except (KeyboardInterrupt, SystemExit) as error:
        if not isinstance(error.__context__ if isinstance(error, SystemExit) else error, KeyboardInterrupt):
            raise
        say_stopped("stopped; a fit goes on from its last checkpoint by the same command with --ckpt_path last")
        return 130
    return 0
