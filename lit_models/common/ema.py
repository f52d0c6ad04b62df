"""Exponential moving average (EMA) of a network's weights."""

import copy
from typing import TypeVar

import torch
from lightning import Trainer
from torch import nn

from lit_models.common.precision import refuse_half_precision

Network = TypeVar("Network", bound=nn.Module)


def ema_copy(network: Network) -> Network:
    """A copy of the network without gradients, whose weights `update_ema` turns into the EMA of the network's."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def update_ema(ema: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Moves the EMA towards the network's weights and copies the network's buffers.

    The decay is min(decay, (1 + step) / (10 + step)), so that the EMA moves faster in the first steps.

    Args:
        ema: Network made by `ema_copy`.
        network: Network that is trained.
        decay: Weight of the old average, in [0, 1).
        step: Number of the training step, from 1.
    """
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(ema.parameters()), list(network.parameters()), 1 - decay)
    for averaged, current in zip(ema.buffers(), network.buffers(), strict=True):
        averaged.copy_(current)


def check_ema_precision(trainer: Trainer) -> None:
    """Raises an error if the trainer keeps the weights in half precision, where an EMA rounds to its old value.

    Raises:
        MisconfigurationException: the weights are float16 or bfloat16.
    """
    refuse_half_precision(
        trainer,
        "an EMA of weights does not change",
        "--trainer.precision bf16-mixed or 16-mixed, or an ema_decay of 0",
    )
