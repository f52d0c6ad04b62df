from collections.abc import Callable

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from genlab.runs.progress import TrainingProgress


class ProgressReporter(Callback):
    """Calls a function after each epoch and each validation within an epoch; ends the training if it returns true.

    Metrics of validation are reported once: an epoch without validation has none. The attribute `ended_early` says
    whether the function has ended the training.

    With several processes the return value is ignored, because only the first process calls the function.

    Args:
        report: The function; it is given the epoch and the latest metrics.
    """

    def __init__(self, report: Callable[[TrainingProgress], bool]) -> None:
        self.report = report
        self.ended_early = False
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self._validated = True
        if not trainer.is_last_batch:
            self._report(trainer, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._report(trainer, trainer.current_epoch + 1)

    def _report(self, trainer: Trainer, epoch: int) -> None:
        if not trainer.is_global_zero:
            return
        latest = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        metrics = {name: value for name, value in latest.items() if self._validated or not name.startswith("val/")}
        self._validated = False
        stop = self.report(TrainingProgress(epoch, trainer.max_epochs or -1, metrics, trainer.global_step))
        if stop and trainer.world_size == 1:
            self.ended_early = trainer.should_stop = True
