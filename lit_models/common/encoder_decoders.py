"""Pairs of an encoder and its decoder, to be injected into a model that decides on the code between them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from torch import nn

from lit_models.common.component import Component
from lit_models.networks.conv import StridedDecoder, StridedEncoder, growing_channels
from lit_models.networks.mlp import mlp


class Networks(Component, ABC):
    @abstractmethod
    def encoder(self, image_shape: Sequence[int], out_dim: int) -> nn.Module:
        """Images, N x C x H x W, to N x out_dim."""

    @abstractmethod
    def decoder(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        """Codes, N x in_dim, to logits of the pixels, N x C x H x W."""


class MLPNetworks(Networks):
    """Fully connected layers of these widths down to the code, and the same ones back.

    Args:
        hidden_dims: widths between the image and the code.
        activation: between layers.

    Raises:
        ValueError: a width is below one.
    """

    def __init__(
        self, hidden_dims: tuple[int, ...] = (512, 256), activation: Literal["relu", "tanh", "silu"] = "relu"
    ) -> None:
        if any(width < 1 for width in hidden_dims):
            raise ValueError(f"hidden_dims are {list(hidden_dims)}; each must be at least 1")
        self.hidden_dims = hidden_dims
        self.activation: Literal["relu", "tanh", "silu"] = activation

    def encoder(self, image_shape: Sequence[int], out_dim: int) -> nn.Module:
        layers = mlp([math.prod(image_shape), *self.hidden_dims, out_dim], self.activation)
        return nn.Sequential(nn.Flatten(), *layers)

    def decoder(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        layers = mlp([in_dim, *reversed(self.hidden_dims), math.prod(image_shape)], self.activation)
        return nn.Sequential(*layers, nn.Unflatten(1, tuple(image_shape)))


class StridedNetworks(Networks):
    """Convolutions of stride 2 and their mirror image (Springenberg et al. 2014, arXiv 1412.6806).

    Args:
        depth: number of convolutions.
        channel_factor: channels of layer i are channel_factor ** i, from i = 1.
        kernel_size: of every convolution.
        hidden_dim: width of the fully connected layer between the convolutions and the code.

    Raises:
        ValueError: from `encoder` and `decoder`, when `depth` halves the image below one pixel.
    """

    def __init__(self, depth: int = 3, channel_factor: int = 8, kernel_size: int = 3, hidden_dim: int = 128) -> None:
        self.depth = depth
        self.channel_factor = channel_factor
        self.kernel_size = kernel_size
        self.hidden_dim = hidden_dim

    def encoder(self, image_shape: Sequence[int], out_dim: int) -> nn.Module:
        channels = growing_channels(self.depth, self.channel_factor)
        return StridedEncoder(image_shape, channels, self.kernel_size, self.hidden_dim, out_dim)

    def decoder(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        channels = growing_channels(self.depth, self.channel_factor)
        return StridedDecoder(image_shape, channels, self.kernel_size, self.hidden_dim, in_dim)
