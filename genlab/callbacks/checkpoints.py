import signal
import threading
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

STEPS_BETWEEN_CHECKS = 8
"""Steps after which several processes agree on whether to stop."""


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
    """Saves checkpoints/last.ckpt, from which a run resumes exactly, after epochs and when a signal stops the run.

    After SIGTERM or the first SIGINT (Ctrl-C), the current step and a running validation are finished, last.ckpt is
    written and the run ends; a second SIGINT ends it at once. If one of several processes gets the signal, all stop
    together.

    If `best_is_last` is set, no metric selects the best weights, and the last ones are saved as best.ckpt too.

    Args:
        every_n_epochs: Save after every so many epochs.
        every_n_steps: Save within epochs too, after every so many batches; 0 for never.

    Raises:
        ValueError: `every_n_epochs` is below 1 or `every_n_steps` negative.
    """

    def __init__(self, every_n_epochs: int = 1, every_n_steps: int = 0) -> None:
        super().__init__()
        if every_n_epochs < 1 or every_n_steps < 0:
            raise ValueError("checkpoint.every_n_epochs must be at least 1 and checkpoint.every_n_steps not negative")
        self.every_n_epochs = every_n_epochs
        self.every_n_steps = every_n_steps
        self.best_is_last = False
        self._handlers: dict[int, Any] = {}
        self._stop_requested = False
        self._signal_deferred = self._due = False
        self._steps = 0

    def path(self, trainer: Trainer) -> Path:
        return Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replaces the signal handlers of Lightning, which end one process while another waits for it."""
        if threading.current_thread() is not threading.main_thread():
            return

        def stop_after_this_step(number: int, frame: Any) -> None:
            self._stop_requested = True
            if number == signal.SIGINT:
                signal.signal(signal.SIGINT, self._handlers[signal.SIGINT])

        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, stop_after_this_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and stops between optimizer steps only, as checkpoints do not hold accumulated gradients."""
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
        """Whether any process was asked to stop. Several processes agree on it from time to time, at the same step."""
        if trainer.world_size == 1:
            return self._stop_requested
        check = last or self._steps % STEPS_BETWEEN_CHECKS == 0
        return check and trainer.strategy.reduce_boolean_decision(self._stop_requested, all=False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._all_stop(trainer, last=True):  # requested during validation
            trainer._signal_connector.received_sigterm = True
        last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.global_step == trainer.max_steps
        ending = last or trainer.should_stop or trainer.received_sigterm
        if ending and self.best_is_last:
            trainer.save_checkpoint(self.path(trainer).with_name("best.ckpt"), weights_only=True)
        if ending or (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            trainer.save_checkpoint(self.path(trainer))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Defers the stop to the end of the validation, as half a validation could not be resumed exactly."""
        self._signal_deferred = trainer.state.fn == TrainerFn.FITTING and trainer.received_sigterm
        if self._signal_deferred:
            trainer._signal_connector.received_sigterm = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._signal_deferred:
            trainer._signal_connector.received_sigterm = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore_handlers()
        training = trainer.state.fn == TrainerFn.FITTING  # in a test the module holds the best weights, not the last
        if training and isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.path(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        """Restores Lightning's handlers, which Lightning then replaces by those before it."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
