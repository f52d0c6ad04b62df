from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from genlab.evaluation.loss_stability import MIN_STEPS, detrended_std
from genlab.evaluation.step_scalars import StepScalars

LOSSES = ("loss_d", "loss_g")


class LossStability(Callback):
    """Logs `train/loss_d_std` and `train/loss_g_std`: the scatter of the adversarial losses about their trend.

    Each epoch is divided into windows of steps. In each window, a line is fitted to the loss by least squares; the
    metric is the standard deviation about this line, averaged over the windows. Steps left over at the end of an epoch
    are not used, but an epoch shorter than a window is one window; fewer than three steps give NaN. The generator's
    windows consist of its own steps, of which there are fewer if n_critic is above 1. Under DDP, the loss of a step is
    the mean over the processes.

    The metric has the units of the loss: compare only runs with the same objective and batch size. A small value alone
    is not good: losses are steadiest if nothing is learned.

    Applies to models whose `training_step` returns a dict with these losses.

    Args:
        window: Steps in a window, at least 3.

    Raises:
        ValueError: `window` is below 3.
    """

    def __init__(self, window: int = 100) -> None:
        if window < MIN_STEPS:
            raise ValueError(f"stability.window is {window}; it must be at least {MIN_STEPS} steps")
        self.window = window
        self._window_losses = StepScalars(*LOSSES)
        self._deviations = StepScalars(*LOSSES)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._window_losses.to(pl_module.device)
        self._deviations.to(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._window_losses.add(outputs)
        for name in LOSSES:
            if self._window_losses.count(name) == self.window:
                self._close_window(name)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name in LOSSES:
            if self._window_losses.count(name) and not self._deviations.count(name):
                self._close_window(name)
            if self._deviations.count(name):
                # All processes have the same values.
                pl_module.log(f"train/{name}_std", self._deviations.values(name).mean(), sync_dist=True)
        self._window_losses.clear()
        self._deviations.clear()

    def _close_window(self, name: str) -> None:
        self._deviations.add({name: detrended_std(self._window_losses.values(name))})
        self._window_losses.clear(name)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self._window_losses.state_dict(), "deviations": self._deviations.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._window_losses.load_state_dict(state_dict["losses"])
        self._deviations.load_state_dict(state_dict["deviations"])
