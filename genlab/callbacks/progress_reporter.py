from collections.abc import Callable

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from genlab.runs.progress import TrainingProgress


class ProgressReporter(Callback):
    """Tells someone of each epoch's end; the run ends there, as if it were its last, when the answer is true.

    With several processes the answer is ignored, as only the first one hears it.
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
