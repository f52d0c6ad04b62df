"""Learning-rate schedules."""

from typing import Any, Literal

import torch
from lightning import Trainer
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

LRSchedule = Literal["constant", "one_cycle"]


def one_cycle(optimizer: torch.optim.Optimizer, trainer: Trainer) -> dict[str, Any]:
    """Return value of `configure_optimizers` for one cycle over the whole training, with the optimizer's rate as peak.

    Raises:
        ValueError: the length of the training is not known.
    """
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": _one_cycle(optimizer, trainer), "interval": "step"}}


def stretch_one_cycle(states: list[dict[str, Any]], trainer: Trainer) -> None:
    """Stretches the cycles of a checkpoint's scheduler states, in place, to the length of the resumed training."""
    for state in states:
        fresh = _one_cycle(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9), trainer).state_dict()
        state |= {key: fresh[key] for key in ("total_steps", "_schedule_phases") if key in state}


def _one_cycle(optimizer: torch.optim.Optimizer, trainer: Trainer) -> OneCycleLR:
    steps = trainer.estimated_stepping_batches
    if steps == float("inf"):
        raise ValueError("model.lr_schedule one_cycle needs an end: give trainer.max_epochs or trainer.max_steps")
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, total_steps=int(steps))
