from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from genlab.evaluation.loss_stability import LEAST_STEPS, detrended_std
from genlab.evaluation.step_scalars import StepScalars

LOSSES = ("loss_d", "loss_g")


class LossStability(Callback):
    """Logs `train/loss_d_std` and `train/loss_g_std`: how far the losses scatter about their own trend, by epoch.

    An epoch is cut into windows, in each of which a straight line is fitted to the loss by least squares; the number is
    the standard deviation of the loss about that line, its mean over the windows. Steps left over at the end of an
    epoch do not count, but an epoch shorter than a window is one; with fewer than three steps the number is NaN. With
    n_critic above one the generator's window has as many of its own steps. Under DDP the loss of a step is the mean
    over the processes.

    It is in the units of the loss: compare runs of one objective and one batch size only. Small is not good by itself:
    losses are steadiest where nothing is learned.

    Applies to models whose `training_step` returns a dict with these losses.

    Args:
        window: steps.

    Raises:
        ValueError: `window` is below three.
    """

    def __init__(self, window: int = 100) -> None:
        if window < LEAST_STEPS:
            raise ValueError(f"window is {window} steps; a scatter about a line needs at least {LEAST_STEPS}")
        self.window = window
        self._open = StepScalars(*LOSSES)
        self._deviations = StepScalars(*LOSSES)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._open.to(pl_module.device)
        self._deviations.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._open.add(outputs)
        for name in LOSSES:
            if self._open.count(name) == self.window:
                self._close(name)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name in LOSSES:
            if self._open.count(name) and not self._deviations.count(name):
                self._close(name)
            if self._deviations.count(name):
                # Every process finds the same numbers.
                pl_module.log(f"train/{name}_std", self._deviations.values(name).mean(), sync_dist=True)
        self._open.clear()
        self._deviations.clear()

    def _close(self, name: str) -> None:
        self._deviations.add({name: detrended_std(self._open.values(name))})
        self._open.clear(name)

    def state_dict(self) -> dict[str, Any]:
        return {"open": self._open.state_dict(), "deviations": self._deviations.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._open.load_state_dict(state_dict["open"])
        self._deviations.load_state_dict(state_dict["deviations"])
