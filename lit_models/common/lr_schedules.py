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


def has_end(trainer: Trainer) -> bool:
    """Whether the length of the training is known."""
    return trainer.max_epochs not in (None, -1) or trainer.max_steps != -1


def share_done(trainer: Trainer, batch_idx: int) -> float:
    """The share of the training that is done before a batch of the current epoch, in [0, 1]."""
    shares = [0.0]
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        shares.append((trainer.current_epoch + batch_idx / trainer.num_training_batches) / trainer.max_epochs)
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    return min(1.0, max(shares))


def linear_decay(share: float, start: float) -> float:
    """The factor of a learning rate after a share of the training: 1 until `start`, then linear to 0 at the end."""
    return 1.0 if share <= start else (1 - share) / (1 - start)
