"""A callback that records what an optimizer is given."""

from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor


class Evaluations(Callback):
    """Writes the parameter, the loss and the gradient of every evaluation in training to `<folder>/<rank>.pt`.

    Args:
        folder: An existing folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.losses: list[Tensor] = []
        self.parameters: list[Tensor] = []
        self.gradients: list[Tensor] = []

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self.losses.append(loss.detach().clone())

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        [parameter] = pl_module.parameters()
        assert parameter.grad is not None
        self.parameters.append(parameter.detach().clone())
        self.gradients.append(parameter.grad.clone())

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        found = {"losses": self.losses, "parameters": self.parameters, "gradients": self.gradients}
        stacked = {name: torch.stack(tensors) for name, tensors in found.items()}
        torch.save(stacked, self.folder / f"{trainer.global_rank}.pt")
