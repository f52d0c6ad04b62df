import functools
import importlib.metadata
import os
import platform
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from genlab.runs.errors import describe_error
from genlab.runs.folder import read_summary, write_summary
from genlab.runs.wandb_run import RunLogger

SECONDS_BETWEEN_WRITES = 1.0
PACKAGES = ("torch", "lightning", "torchvision", "torchmetrics", "wandb", "numpy")


class RunRecord(Callback):
    """Keeps summary.json up to date: state, metrics, config, seconds, images seen, versions and commit of the run.

    The state is running, then finished, failed (with the error) or killed (by a signal).

    Args:
        folder: The run folder.
        config: The config of the run, with dotted keys.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        earlier = read_summary(folder) or {}
        self.summary: dict[str, Any] = {
            "state": "running",
            "metrics": earlier.get("metrics", {}),
            "config": config,
            "seconds": 0.0,
            "images_seen": 0,
            "started": earlier.get("started", time.strftime("%Y-%m-%dT%H:%M:%S%z")),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            **({"wandb_id": earlier["wandb_id"]} if "wandb_id" in earlier else {}),
            "versions": {"python": platform.python_version(), **_versions()},
            "commit": _commit(),
        }
        self._seconds_before = 0.0
        self._start = time.monotonic()
        self._images = 0
        self._written = 0.0

    def update(self, **entries: Any) -> None:
        """Adds entries to the summary and writes it."""
        self.summary |= entries
        self._write()

    def finish(self, metrics: dict[str, float]) -> None:
        """Marks the run as finished and adds its final metrics."""
        self.summary["metrics"] |= metrics
        self.update(state="finished")

    def fail(self, error: BaseException) -> None:
        """Marks the run as killed if a signal ended it, else as failed."""
        killed = isinstance(error, SIGTERMException | KeyboardInterrupt | SystemExit)
        self.update(
            state="killed" if killed else "failed",
            error=describe_error(error),
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger) and logger.run_id is not None:
                self.summary["wandb_id"] = logger.run_id  # the agent of a sweep sets its own
        self._write(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch[0]) * trainer.world_size

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._add_metrics(trainer)
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self._write(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._seconds(), "images_seen": self._images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds_before = state_dict["seconds"]
        self._images = state_dict["images_seen"]

    def _add_metrics(self, trainer: Trainer) -> None:
        for name, value in trainer.callback_metrics.items():
            if "/" in name and not name.startswith("test/"):
                self.summary["metrics"][name] = float(value)

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._start

    def _write(self, trainer: Trainer | None = None) -> None:
        if trainer is not None and not trainer.is_global_zero:
            return
        self.summary["seconds"] = round(self._seconds(), 3)
        self.summary["images_seen"] = self._images
        write_summary(self.folder, self.summary)
        self._written = time.monotonic()


@functools.cache
def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if torch.cuda.is_available():
        found["cuda"] = str(torch.version.cuda)
    return found


@functools.cache
def _commit() -> str | None:
    """The commit of the running code, with a + if files have changed since; None outside a checkout.

    Code that is installed in an environment is none, even if the environment lies in a folder with commits of its own.
    """
    here = Path(__file__).parent

    def git(*args: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *args], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)
        commit = git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
