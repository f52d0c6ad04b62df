"""Normalisation layers by name."""

from collections.abc import Callable
from typing import Literal

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

Norm = Literal["batch", "instance", "layer", "none"]
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "layer": lambda channels: nn.GroupNorm(1, channels),
}
"""Functions of the number of channels to a layer; `none` has no layer."""


def add_spectral_norm(network: nn.Module) -> nn.Module:
    """Applies spectral norm to every convolution, linear layer and embedding of the network, and returns it."""
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            spectral_norm(module)
    return network
