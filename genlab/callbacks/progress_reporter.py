from collections.abc import Callable

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from genlab.runs.progress import TrainingProgress


class ProgressReporter(Callback):
    """Calls a function after each epoch, and ends the training normally if it returns true.

    With several processes the return value is ignored, because only the first process calls the function.

    Args:
        report: The function; it is given the epoch and the latest metrics.
    """

    def __init__(self, report: Callable[[TrainingProgress], bool]) -> None:
        self.report = report

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        stop = self.report(TrainingProgress(trainer.current_epoch + 1, trainer.max_epochs or -1, metrics))
        if stop and trainer.world_size == 1:
            trainer.should_stop = True
