"""Pairs of an encoder and a decoder, to be injected into an autoencoder, which decides on the code between them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from torch import nn

from lit_models.common.component import Component
from lit_models.networks.conv import (
    StridedDecoder,
    StridedEncoder,
    check_doubling,
    depth_of,
    doubling_channels,
    growing_channels,
)
from lit_models.networks.efficientnet import EfficientNetEncoder
from lit_models.networks.init import channels_last
from lit_models.networks.mlp import mlp
from lit_models.networks.one_layer import DictionaryDecoder
from lit_models.networks.residual import ResidualDecoder, ResidualEncoder


class Networks(Component, ABC):
    """Builds an encoder and a decoder."""

    @abstractmethod
    def build_encoder(self, image_shape: Sequence[int], out_dim: int) -> nn.Module:
        """Builds the encoder: images, N x C x H x W -> N x out_dim."""

    @abstractmethod
    def build_decoder(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        """Builds the decoder: codes, N x in_dim -> logits of the pixels, N x C x H x W."""


class MLPNetworks(Networks):
    """Fully connected encoder and a decoder with the same hidden widths in reverse order.

    Args:
        hidden_dims: Widths of the encoder's hidden layers.
        activation: Activation between layers.

    Raises:
        ValueError: a width is below 1.

    Examples:
        >>> import torch
        >>> MLPNetworks(hidden_dims=(8,)).build_decoder((1, 4, 4), 2)(torch.zeros(3, 2)).shape
        torch.Size([3, 1, 4, 4])
    """

    def __init__(
        self, hidden_dims: tuple[int, ...] = (512, 256), activation: Literal["relu", "tanh", "silu"] = "relu"
    ) -> None:
        if any(width < 1 for width in hidden_dims):
            raise ValueError(f"hidden_dims is {list(hidden_dims)}; each width must be at least 1")
        self.hidden_dims = hidden_dims
        self.activation: Literal["relu", "tanh", "silu"] = activation

    def build_encoder(self, image_shape: Sequence[int], out_dim: int) -> nn.Module:
        layers = mlp([math.prod(image_shape), *self.hidden_dims, out_dim], self.activation)
        return nn.Sequential(nn.Flatten(), *layers)

    def build_decoder(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        layers = mlp([in_dim, *reversed(self.hidden_dims), math.prod(image_shape)], self.activation)
        return nn.Sequential(*layers, nn.Unflatten(1, tuple(image_shape)))


class StridedNetworks(Networks):
    """Encoder of convolutions of stride 2 and its mirror image (Springenberg et al. 2014, arXiv 1412.6806).

    Args:
        depth: Number of convolutions. By default it follows from the size of the images: 3 for 28 and 32, 4 for 64, 5
            for 128.
        channel_factor: Layer i has channel_factor ** i channels, i = 1, 2, ..., and at most channel_factor ** 3 where
            the depth follows from the size.
        kernel_size: Kernel size of every convolution.
        hidden_dim: Width of the fully connected layer between the convolutions and the code.

    Raises:
        ValueError: from `build_encoder` and `build_decoder`, the image is too small for `depth` convolutions.

    Examples:
        >>> import torch
        >>> StridedNetworks(depth=2).build_encoder((1, 28, 28), 10)(torch.zeros(3, 1, 28, 28)).shape
        torch.Size([3, 10])
    """

    def __init__(
        self, depth: int | None = None, channel_factor: int = 8, kernel_size: int = 3, hidden_dim: int = 128
    ) -> None:
        self.depth = depth
        self.channel_factor = channel_factor
        self.kernel_size = kernel_size
        self.hidden_dim = hidden_dim

    def build_encoder(self, image_shape: Sequence[int], out_dim: int) -> nn.Module:
        channels = growing_channels(self.depth, self.channel_factor, image_shape[1:])
        return StridedEncoder(image_shape, channels, self.kernel_size, self.hidden_dim, out_dim)

    def build_decoder(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        channels = growing_channels(self.depth, self.channel_factor, image_shape[1:])
        return StridedDecoder(image_shape, channels, self.kernel_size, self.hidden_dim, in_dim)


class ResidualNetworks(Networks):
    """Encoder of residual blocks and its mirror image, for images of any size.

    A convolution of stride 2, or an upsampling one, leads to each resolution. The blocks are those of diffusion models
    (Ho et al. 2020, arXiv 2006.11239, appendix B): group norm, SiLU and a convolution, twice.

    Args:
        channels: Channels at half the image's size; twice as many at each smaller size.
        max_channels: Largest number of channels.
        blocks: Number of residual blocks at each resolution.
        depth: Number of times that the size is halved. By default it follows from the image's size: as often as leaves
            sides of at least 3 pixels.

    Raises:
        ValueError: a number is below 1; from `build_encoder` and `build_decoder`, the image is too small to be halved
            `depth` times.

    Examples:
        >>> import torch
        >>> ResidualNetworks(4, 8).build_decoder((3, 100, 60), 10)(torch.zeros(2, 10)).shape
        torch.Size([2, 3, 100, 60])
    """

    def __init__(self, channels: int = 32, max_channels: int = 256, blocks: int = 1, depth: int | None = None) -> None:
        check_doubling(channels, max_channels, depth)
        if blocks < 1:
            raise ValueError(f"blocks is {blocks}; it must be at least 1")
        self.channels = channels
        self.max_channels = max_channels
        self.blocks = blocks
        self.depth = depth

    def build_encoder(self, image_shape: Sequence[int], out_dim: int) -> nn.Module:
        return channels_last(ResidualEncoder(image_shape, self._channels(image_shape), self.blocks, out_dim))

    def build_decoder(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        return channels_last(ResidualDecoder(image_shape, self._channels(image_shape), self.blocks, in_dim))

    def _channels(self, image_shape: Sequence[int]) -> list[int]:
        return doubling_channels(self.depth or depth_of(image_shape[1:]), self.channels, self.max_channels)


class EfficientNetNetworks(Networks):
    """EfficientNet-B0 (Tan and Le 2019, arXiv 1905.11946) as encoder, transposed convolutions as decoder.

    Args:
        weights: Initial weights of the backbone: IMAGENET1K_V1 or DEFAULT, which torchvision downloads once; a file
            with them; or none for random weights.
        freeze: Trains only the layer between the features and the code. The backbone keeps its weights and its
            batch-norm statistics.
        image_size: Height and width to which images are resized for the backbone; none to leave them as they are. The
            backbone halves images five times: 28 pixels leave one position, and 224, as on ImageNet, leave 7 x 7.

    Raises:
        ValueError: `image_size` is below 1; from `build_encoder`, the weights cannot be loaded, or the images have
            neither 1 nor 3 channels.

    Examples:
        >>> import torch
        >>> EfficientNetNetworks().build_decoder((3, 28, 28), 10)(torch.zeros(2, 10)).shape
        torch.Size([2, 3, 28, 28])
    """

    initial_weights = ("weights",)

    def __init__(self, weights: str | None = None, freeze: bool = False, image_size: int | None = None) -> None:
        if image_size is not None and image_size < 1:
            raise ValueError(f"image_size is {image_size}; it must be at least 1")
        self.weights = weights
        self.freeze = freeze
        self.image_size = image_size

    def build_encoder(self, image_shape: Sequence[int], out_dim: int) -> nn.Module:
        return EfficientNetEncoder(image_shape, out_dim, self.weights, self.freeze, self.image_size)

    def build_decoder(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        channels = [8, *[64] * max(1, depth_of(image_shape[1:]) - 2)]  # two convolutions for 28 and 32 pixels
        return StridedDecoder(image_shape, channels, 3, 128, in_dim)


class DictionaryNetworks(Networks):
    """Encoder of one fully connected layer; the decoder is a sum of atoms of unit norm, weighted by the code.

    With atoms of fixed norm, a penalty on the code cannot be reduced by small codes and large decoder weights
    (Olshausen and Field 1996, doi 10.1038/381607a0).

    Examples:
        >>> import torch
        >>> DictionaryNetworks().build_decoder((1, 4, 4), 2)(torch.zeros(3, 2)).shape
        torch.Size([3, 1, 4, 4])
    """

    def __init__(self) -> None: ...

    def build_encoder(self, image_shape: Sequence[int], out_dim: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), out_dim))

    def build_decoder(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        return DictionaryDecoder(in_dim, image_shape)
