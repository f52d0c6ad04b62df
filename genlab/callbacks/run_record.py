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
from lightning.fabric.utilities.apply_func import convert_tensors_to_scalars
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from genlab.callbacks.progress_reporter import ProgressReporter
from genlab.runs.errors import describe_error
from genlab.runs.facts import run_facts
from genlab.runs.folder import read_summary, show_life, write_summary
from genlab.runs.history import MetricsCSV, count_epochs_from_one, with_epoch_from_one
from genlab.runs.wandb_run import RunLogger

SECONDS_BETWEEN_WRITES = 1.0
SECONDS_BETWEEN_SIGNS = 60.0
PACKAGES = ("torch", "lightning", "torchvision", "torchmetrics", "wandb", "numpy")


class RunRecord(Callback):
    """Keeps summary.json up to date: state, metrics, config, seconds, images seen, versions and commit of the run.

    The state is running, then finished, failed (with the error) or killed (by a signal). A finished run whose training
    was ended by a sweep before its last epoch has `ended_early`. The metrics of a run that is
    not finished are the latest ones; those of a finished run are the latest of `train/`, and for `val/` and `test/`
    those of best.ckpt.

    A run that trained to its end has what `run_facts` tells, so that `sweep.py compare` knows which figures compare.

    The record also writes metrics.csv. A checkpoint holds what a resumed run needs to end with the same record.

    Args:
        folder: The run folder.
        config: The config of the run, with dotted keys.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self.history = MetricsCSV(folder)
        self.metrics: dict[str, float] = {}
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
        self._written = self._shown = 0.0
        self._trainer: Trainer | None = None
        self._resumed: dict[str, Any] | None = None
        self._finished = earlier.get("state") == "finished"
        self._stopped = self._ended_early = False

    def update(self, **entries: Any) -> None:
        """Adds entries to the summary and writes it."""
        self.summary |= entries
        self._write()

    def finish(self, metrics: dict[str, float]) -> None:
        """Marks the run as finished, with its final metrics."""
        self.update(state="finished", metrics=metrics)

    def fail(self, error: BaseException) -> None:
        """Marks the run as killed if a signal ended it, else as failed."""
        killed = isinstance(error, SIGTERMException | KeyboardInterrupt | SystemExit)
        self.update(
            state="killed" if killed else "failed",
            error=describe_error(error),
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer
        count_epochs_from_one(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger) and logger.run_id is not None:
                self.summary["wandb_id"] = logger.run_id  # the agent of a sweep sets its own
        trainer.callback_metrics.update(
            {name: torch.tensor(value, dtype=torch.float64) for name, value in self.metrics.items()}
        )
        self.resume_history()
        trainer.should_stop = self._stopped
        self._write(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch[0]) * trainer.world_size
        self._show_life(trainer)
        connector = trainer._logger_connector
        if trainer.fit_loop.epoch_loop._is_training_done and not connector.should_update_logs:
            connector.log_metrics(connector.metrics["log"])  # the last step of an epoch is logged in any case

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        self._show_life(trainer)

    def on_test_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        self._show_life(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._add_metrics(trainer)
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self._write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._add_metrics(trainer)
        self.summary |= run_facts(trainer, pl_module)
        if self._ended_early or _ended_early(trainer):
            self.summary["ended_early"] = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self.resume_history()

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"seconds": self._seconds(), "images_seen": self._images}
        if self._trainer is not None:
            row = _next_row(self._trainer)
            state["metrics"] = _latest(self._trainer)
            state["rows"], state["last_row"] = self.history.count() + (row is not None), row
            state["stopped"], state["ended_early"] = self._trainer.should_stop, _ended_early(self._trainer)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds_before = state_dict["seconds"]
        self._images = state_dict["images_seen"]
        self.metrics = state_dict["metrics"]
        self.summary["metrics"] |= self.metrics
        self._resumed = state_dict
        if not self._finished:  # else it is resumed to train for longer
            self._stopped, self._ended_early = state_dict["stopped"], state_dict["ended_early"]

    def resume_history(self) -> None:
        """Deletes the rows of metrics.csv that a resumed run will write again."""
        if self._resumed is not None:
            self.history.resume(self._resumed["rows"], self._resumed["last_row"])
            self._resumed = None

    def _add_metrics(self, trainer: Trainer) -> None:
        self.metrics = _latest(trainer)
        self.summary["metrics"] |= self.metrics

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._start

    def _show_life(self, trainer: Trainer) -> None:
        if time.monotonic() - self._shown > SECONDS_BETWEEN_SIGNS and trainer.is_global_zero:
            self._shown = time.monotonic()
            show_life(self.folder)

    def _write(self, trainer: Trainer | None = None) -> None:
        if trainer is not None and not trainer.is_global_zero:
            return
        self.summary["seconds"] = round(self._seconds(), 3)
        self.summary["images_seen"] = self._images
        write_summary(self.folder, self.summary)
        self._written = time.monotonic()


def _latest(trainer: Trainer) -> dict[str, float]:
    """The latest value of each metric of training and validation."""
    return {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}


def _ended_early(trainer: Trainer) -> bool:
    """Whether the sweep ended this training."""
    reporters = [c for c in trainer.callbacks if isinstance(c, ProgressReporter)]  # type: ignore[attr-defined]
    return any(reporter.ended_early for reporter in reporters)


def _next_row(trainer: Trainer) -> dict[str, float] | None:
    """The row that Lightning will log when the current hook of the training is over; None if it will log none."""
    loop, connector = trainer.fit_loop.epoch_loop, trainer._logger_connector
    hook = trainer.lightning_module._current_fx_name
    step = loop._batches_that_stepped - (hook == "on_train_epoch_end")
    if hook != "on_train_epoch_end" and not (hook == "on_train_batch_end" and connector.should_update_logs):
        return None
    metrics = convert_tensors_to_scalars(connector.metrics["log"])
    return {"step": step, **with_epoch_from_one({**metrics, "epoch": trainer.current_epoch})} if metrics else None


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
