"""A moving average of a network's weights."""

import copy
from typing import TypeVar

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def moving_average(network: Network) -> Network:
    """A copy of the network that learns nothing itself, to `follow` it."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Moves the average towards the network, faster in the first steps, and gives it the same statistics.

    Args:
        decay: share of the average that is kept.
        step: of training, from 1.
    """
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    for mean, current in zip(average.buffers(), network.buffers(), strict=True):
        mean.copy_(current)


def refuse_half(module: LightningModule) -> None:
    """
    Raises:
        MisconfigurationException: its moving average would stand still in half precision.
    """
    if module.dtype in (torch.float16, torch.bfloat16):
        raise MisconfigurationException("a moving average stands still in half precision: use bf16-mixed or 16-mixed")
