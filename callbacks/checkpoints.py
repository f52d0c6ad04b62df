"""best.ckpt for the numbers, last.ckpt to go on from."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException


def best_checkpoint(folder: Path, metric: str, mode: str) -> ModelCheckpoint:
    """Keeps the weights with the best value of a validation metric as best.ckpt."""
    return ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor=metric,
        mode=mode,
        save_weights_only=True,
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is whole.

    Lightning's own writer copies from the system's temporary folder, and leaves half a file, and not the old one,
    when the disk is full or the process is killed at that moment.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        try:
            with open(part, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


class LastCheckpoint(Checkpoint):
    """Everything a run needs to go on, as last.ckpt: at the end of epochs, and when a signal stops the run.

    The first SIGINT (Ctrl-C) is taken like a SIGTERM: the step in hand is finished, last.ckpt is written, the run ends.
    A second one ends it at once. With `best_is_last`, nothing chooses among the weights: the last are best.ckpt too.

    Args:
        every_n_epochs: how often to write.
        every_n_steps: write within epochs too, after so many batches; 0 for never.
    """

    def __init__(self, every_n_epochs: int = 1, every_n_steps: int = 0) -> None:
        super().__init__()
        if every_n_epochs < 1 or every_n_steps < 0:
            raise ValueError("checkpoint.every_n_epochs must be at least 1 and checkpoint.every_n_steps not negative")
        self.every_n_epochs = every_n_epochs
        self.every_n_steps = every_n_steps
        self.best_is_last = False
        self._before: Any = None
        self._postponed = self._due = False

    def path(self, trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._before = signal.getsignal(signal.SIGINT)

        def stop_after_this_step(number: int, frame: Any) -> None:
            signal.signal(signal.SIGINT, self._before)
            signal.raise_signal(signal.SIGTERM)  # Lightning's handler tells the other processes too

        signal.signal(signal.SIGINT, stop_after_this_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves between steps only: gradients that are still being accumulated are in no checkpoint."""
        if trainer.fit_loop._should_accumulate():
            self._due = self._due or self._is_due(batch_idx)
            self._postpone_signal(trainer)
            return
        self._release_signal(trainer)
        if self._due or self._is_due(batch_idx):
            self._due = False
            trainer.save_checkpoint(self.path(trainer))

    def _is_due(self, batch_idx: int) -> bool:
        return self.every_n_steps > 0 and (batch_idx + 1) % self.every_n_steps == 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.global_step == trainer.max_steps
        ending = last or trainer.should_stop
        if ending and self.best_is_last:
            trainer.save_checkpoint(self.path(trainer).with_name("best.ckpt"), weights_only=True)
        if ending or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            trainer.save_checkpoint(self.path(trainer))

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Lets a signal wait until validation is done: half a validation could not be resumed exactly."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._postpone_signal(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._release_signal(trainer)

    def _postpone_signal(self, trainer: Trainer) -> None:
        if trainer.received_sigterm:
            self._postponed = True
            trainer._signal_connector.received_sigterm = False

    def _release_signal(self, trainer: Trainer) -> None:
        if self._postponed:
            self._postponed = False
            trainer._signal_connector.received_sigterm = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        training = trainer.state.fn == TrainerFn.FITTING  # in a test the module holds the best weights, not the last
        if training and isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.path(trainer))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
