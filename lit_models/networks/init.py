"""Weight initialisation and memory layout."""

from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Network = TypeVar("Network", bound=nn.Module)
Layer = TypeVar("Layer", bound=nn.Module)


def dcgan_init(network: nn.Module, std: float = 0.02) -> nn.Module:
    """Draws weights from N(0, std^2), those of batch norms from N(1, std^2), and sets biases to 0.

    Radford et al. 2015, arXiv 1511.06434, section 4.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
            nn.init.normal_(module.weight, 0.0, std)
        elif isinstance(module, _BatchNorm) and module.affine:
            nn.init.normal_(module.weight, 1.0, std)
        bias = getattr(module, "bias", None)
        if bias is not None:
            nn.init.zeros_(bias)
    return network


def glorot_init(layer: Layer, gain: float = 1.0) -> Layer:
    """Draws the weights of a layer from U(-a, a), a = gain sqrt(6 / (fan in + fan out)), and sets its bias to 0.

    Glorot and Bengio 2010, section 4.2.
    """
    nn.init.xavier_uniform_(layer.weight, gain)  # type: ignore[arg-type]
    bias = getattr(layer, "bias", None)
    if bias is not None:
        nn.init.zeros_(bias)
    return layer


def fan_in_init(layer: Layer, gain: float = 1.0) -> Layer:
    """Draws the weights of a layer from N(0, gain^2 / fan in), and sets its bias to 0.

    He et al. 2015, arXiv 1502.01852, section 2.2.
    """
    weight: torch.Tensor = layer.weight  # type: ignore[assignment]
    nn.init.normal_(weight, 0.0, gain / weight[0].numel() ** 0.5)
    bias = getattr(layer, "bias", None)
    if bias is not None:
        nn.init.zeros_(bias)
    return layer


def channels_last(network: Network) -> Network:
    """Sets the memory format of the network to channels last, which its feature maps then follow.

    This is up to twice as fast with tensor cores, and in half precision on a CPU.
    """
    return network.to(memory_format=torch.channels_last)
