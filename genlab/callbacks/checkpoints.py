import math
import signal
import threading
from pathlib import Path
from typing import Any, Literal

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lit_models.common.checkpoints import read_checkpoint

STEPS_BETWEEN_CHECKS = 8
"""Steps after which several processes agree on whether to stop."""


class BestCheckpoint(Checkpoint):
    """Saves the weights with the best value of a validation metric as checkpoints/best.ckpt.

    The validation metrics of these weights are in the file too. A run that is resumed reads its best value so far from
    there, so that its folder may be moved, copied or renamed.

    The last weights are the best ones if no metric selects, or if no validation gave a finite value of the metric.

    Args:
        folder: Where best.ckpt is written, or is read from when a run is resumed.
        metric: Name of the metric, such as val/mse; None if no metric selects.
        mode: min or max: which values are better.
    """

    def __init__(self, folder: Path, metric: str | None = None, mode: Literal["min", "max"] = "min") -> None:
        super().__init__()
        self.path = folder / "best.ckpt"
        self.metric = metric
        self.mode = mode
        self.metrics: dict[str, float] = read_checkpoint(self.path).get("metrics", {}) if self.path.is_file() else {}

    @property
    def score(self) -> float | None:
        """The value of the metric for the weights in best.ckpt; None if no validation selected them."""
        value = self.metrics.get(self.metric, math.nan) if self.metric else math.nan
        return value if math.isfinite(value) else None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Several processes go by the file that the first one has read."""
        if stage == "fit":
            self.path, self.metrics = trainer.strategy.broadcast((self.path, self.metrics))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.metric is None or trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if self.metric not in trainer.callback_metrics:
            raise MisconfigurationException(
                f"{self.metric} selects the best weights, but validation does not log it; it logs"
                f" {', '.join(sorted(_validation_metrics(trainer))) or 'nothing'}"
            )
        if trainer.strategy.reduce_boolean_decision(self._is_better(float(trainer.callback_metrics[self.metric]))):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.score is None and _training_ends(trainer):
            self._save(trainer)

    def _is_better(self, value: float) -> bool:
        if self.score is None or not math.isfinite(value):
            return math.isfinite(value)
        return value < self.score if self.mode == "min" else value > self.score

    def _save(self, trainer: Trainer) -> None:
        self.metrics = _validation_metrics(trainer)
        weights = trainer._checkpoint_connector.dump_checkpoint(weights_only=True)
        trainer.strategy.save_checkpoint(weights | {"metrics": self.metrics}, self.path)
        trainer.strategy.barrier()


class LastCheckpoint(Checkpoint):
    """Saves checkpoints/last.ckpt, from which a run resumes exactly, after epochs and when a signal stops the run.

    After SIGTERM or the first SIGINT (Ctrl-C), the current step and a validation that follows it are finished,
    last.ckpt is written and the run ends; a second SIGINT ends it at once. If one of several processes gets the
    signal, all stop together.

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
        self._handlers: dict[int, Any] = {}
        self._stop_requested = self._due = False
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
        """Saves and stops only where nothing but another batch follows.

        A checkpoint does not hold accumulated gradients, and a resumed run does not make up for a validation or an end
        of an epoch that the checkpoint preceded.
        """
        self._due |= self.every_n_steps > 0 and (batch_idx + 1) % self.every_n_steps == 0
        if trainer.fit_loop._should_accumulate() or _more_follows(trainer):
            return
        self._steps += 1
        check = trainer.world_size == 1 or self._steps % STEPS_BETWEEN_CHECKS == 0
        self._save_or_stop(trainer, save=False, check=check)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        save = _training_ends(trainer) or (trainer.current_epoch + 1) % self.every_n_epochs == 0
        self._save_or_stop(trainer, save, check=True)

    def _save_or_stop(self, trainer: Trainer, save: bool, check: bool) -> None:
        """Saves if it is due, and ends the run if it is asked to `check` and any process was asked to stop."""
        stop = check and trainer.strategy.reduce_boolean_decision(self._stop_requested, all=False)
        if save or stop or self._due:
            self._due = False
            trainer.save_checkpoint(self.path(trainer))
        if stop:
            trainer._signal_connector.received_sigterm = True  # Lightning ends the run after this

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore_handlers()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        """Restores Lightning's handlers, which Lightning then replaces by those before it."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()


def _more_follows(trainer: Trainer) -> bool:
    """Whether a validation or the end of the epoch follows the current batch."""
    loop = trainer.fit_loop
    validates = loop.epoch_loop._should_check_val_fx(loop._data_fetcher)  # type: ignore[arg-type]
    return validates or loop.epoch_loop._is_training_done or trainer.should_stop


def _training_ends(trainer: Trainer) -> bool:
    """Whether the epoch that ends is the last one."""
    epochs, steps = trainer.max_epochs or -1, trainer.max_steps
    done = 0 < epochs <= trainer.current_epoch + 1 or 0 < steps <= trainer.global_step
    return done or trainer.should_stop


def _validation_metrics(trainer: Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
