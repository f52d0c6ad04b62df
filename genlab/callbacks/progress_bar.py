import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

SECONDS_BETWEEN_LINES = 5.0


def progress_bar() -> ProgressBar:
    """A bar on a terminal, plain lines if the output goes elsewhere."""
    return EpochProgressBar(refresh_rate=20) if sys.stdout.isatty() else PlainProgressBar()


class EpochProgressBar(RichProgressBar):
    """A bar for each epoch, such as `Epoch 3/10`; Lightning's own counts from zero."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {_epochs(self.trainer)}".ljust(len(self.validation_description))


class PlainProgressBar(ProgressBar):
    """Prints lines such as `epoch 3/10  train/mse 0.0182  val/mse 0.0176  12.4 s`, at most one every five seconds.

    Always prints the last epoch; during long epochs also the batch, once a minute.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._start = self._printed = 0.0

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = self._printed = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._print(trainer, last=trainer.current_epoch + 1 == trainer.max_epochs)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if time.monotonic() - self._printed > 12 * SECONDS_BETWEEN_LINES:  # a long epoch
            self._print(trainer, f"  batch {batch_idx + 1}/{trainer.num_training_batches}")

    def _print(self, trainer: Trainer, where: str = "", last: bool = False) -> None:
        now = time.monotonic()
        if not self._enabled or not trainer.is_global_zero:
            return
        if now - self._printed < SECONDS_BETWEEN_LINES and not last:
            return
        self._printed = now
        terms = "".join(f"  {k} {float(v):.4g}" for k, v in trainer.callback_metrics.items() if "/" in k)
        print(f"epoch {_epochs(trainer)}{where}{terms}  {now - self._start:.1f} s", flush=True)


def _epochs(trainer: Trainer) -> str:
    """The current epoch, and the number of epochs if it is known."""
    return f"{trainer.current_epoch + 1}" + (f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else "")
