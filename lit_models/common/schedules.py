"""How a learning rate goes over a training."""

from typing import Any, Literal

import torch
from lightning import Trainer
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

Schedule = Literal["constant", "one_cycle"]


def one_cycle(optimizer: torch.optim.Optimizer, trainer: Trainer) -> dict[str, Any]:
    """What `configure_optimizers` returns for one cycle over the whole training, which peaks at the optimizer's rate.

    Raises:
        ValueError: the training has no end.
    """
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": _cycle(optimizer, trainer), "interval": "step"}}


def stretch(states: list[dict[str, Any]], trainer: Trainer) -> None:
    """Stretches the cycles of a checkpoint to the length of the training that resumes it."""
    for state in states:
        fresh = _cycle(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9), trainer).state_dict()
        state |= {key: fresh[key] for key in ("total_steps", "_schedule_phases") if key in state}


def _cycle(optimizer: torch.optim.Optimizer, trainer: Trainer) -> OneCycleLR:
    steps = trainer.estimated_stepping_batches
    if steps == float("inf"):
        raise ValueError("model.schedule one_cycle needs an end: give trainer.max_epochs or trainer.max_steps")
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, total_steps=int(steps))
