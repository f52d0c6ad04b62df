import signal
import threading
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

STEPS_BETWEEN_QUESTIONS = 8


class BestCheckpoint(ModelCheckpoint):
    """Saves the weights with the best value of a validation metric as checkpoints/best.ckpt.

    Args:
        folder: Where best.ckpt is written.
        metric: Name of the metric, such as val/mse.
        mode: min or max: which values are better.
    """

    def __init__(self, folder: Path, metric: str, mode: str) -> None:
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor=metric,
            mode=mode,
            save_weights_only=True,
            enable_version_counter=False,
            save_on_train_epoch_end=False,
        )


class LastCheckpoint(Checkpoint):
    """Everything a run needs to go on, as last.ckpt: at the end of epochs, and when a signal stops the run.

    SIGTERM and the first SIGINT (Ctrl-C) let the step in hand and a validation be finished, write last.ckpt and end
    the run; a second SIGINT ends it at once. Several processes stop together, whichever of them was told.

    With `best_is_last`, nothing chooses among the weights: the last are best.ckpt too.

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
        self._handlers: dict[int, Any] = {}
        self._told_to_stop = False
        self._hidden = self._due = False
        self._steps = 0

    def path(self, trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals from Lightning, whose handler would end one process while another waits for it."""
        if threading.current_thread() is not threading.main_thread():
            return

        def stop_after_this_step(number: int, frame: Any) -> None:
            self._told_to_stop = True
            if number == signal.SIGINT:
                signal.signal(signal.SIGINT, self._handlers[signal.SIGINT])

        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, stop_after_this_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and stops between steps only: gradients that are still being accumulated are in no checkpoint."""
        self._due |= self.every_n_steps > 0 and (batch_idx + 1) % self.every_n_steps == 0
        if trainer.fit_loop._should_accumulate():
            return
        if self._due:
            self._due = False
            trainer.save_checkpoint(self.path(trainer))
        self._steps += 1
        if self._all_stop(trainer, last=batch_idx + 1 == trainer.num_training_batches):
            trainer._signal_connector.received_sigterm = True  # Lightning ends the run after this

    def _all_stop(self, trainer: Trainer, last: bool) -> bool:
        """Whether any process was told to stop; several ask one another now and then, all at the same step."""
        if trainer.world_size == 1:
            return self._told_to_stop
        ask = last or self._steps % STEPS_BETWEEN_QUESTIONS == 0
        return ask and trainer.strategy.reduce_boolean_decision(self._told_to_stop, all=False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._all_stop(trainer, last=True):  # told during validation
            trainer._signal_connector.received_sigterm = True
        last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.global_step == trainer.max_steps
        ending = last or trainer.should_stop or trainer.received_sigterm
        if ending and self.best_is_last:
            trainer.save_checkpoint(self.path(trainer).with_name("best.ckpt"), weights_only=True)
        if ending or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            trainer.save_checkpoint(self.path(trainer))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Half a validation could not be resumed exactly, so stopping waits until it is done."""
        self._hidden = trainer.state.fn == TrainerFn.FITTING and trainer.received_sigterm
        if self._hidden:
            trainer._signal_connector.received_sigterm = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._hidden:
            trainer._signal_connector.received_sigterm = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._give_signals_back()
        training = trainer.state.fn == TrainerFn.FITTING  # in a test the module holds the best weights, not the last
        if training and isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.path(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._give_signals_back()

    def _give_signals_back(self) -> None:
        """To Lightning, before it gives them back to whoever had them before it."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
