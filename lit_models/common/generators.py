"""Generators: components that build networks from codes to images."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from lit_models.common.component import Component
from lit_models.networks.acgan import ACGANDecoder
from lit_models.networks.conv import check_doubling, depth_of
from lit_models.networks.dcgan import DCGANDecoder
from lit_models.networks.init import channels_last
from lit_models.networks.mlp import mlp
from lit_models.networks.pooling import PoolingImageDecoder
from lit_models.networks.r3gan import R3GANDecoder
from lit_models.networks.resnet_gan import ResNetDecoder


class Generator(Component, ABC):
    """Component that builds a network from codes to images."""

    @abstractmethod
    def build(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        """A network from codes, N x in_dim, to images in [0, 1], N x C x H x W."""


class DCGANGenerator(Generator):
    """Transposed convolutions with batch norm (Radford et al. 2015, arXiv 1511.06434).

    Args:
        channels: Channels of the maps at half the image's size; twice as many at each smaller size.
        depth: Number of transposed convolutions, each of which doubles the size. By default it follows from the size of
            the images, 3 for 28 and 32, 4 for 64, 5 for 128, and maps have at most eight times as many channels.

    Raises:
        ValueError: a number is below one; from `build`, the image is too small to be halved `depth` times.
    """

    def __init__(self, channels: int = 64, depth: int | None = None) -> None:
        if channels < 1 or (depth is not None and depth < 1):
            raise ValueError(f"channels is {channels} and depth {depth}; both must be at least 1")
        self.channels = channels
        self.depth = depth

    def build(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        return DCGANDecoder(image_shape, in_dim, self.channels, self.depth)


class ResNetGenerator(Generator):
    """Residual blocks with batch norm and nearest-neighbour upsampling, for images of any size.

    Gulrajani et al. 2017, arXiv 1704.00028, and Miyato et al. 2018, arXiv 1802.05957, appendix B.4. Their generator for
    CIFAR-10 has 256 `channels` and `max_channels`, that for STL-10 64 and 512 with a depth of 3, and that for ImageNet
    at 128 x 128 64 and 1024.

    Args:
        channels: Channels of the maps of the image's size; twice as many at each smaller size.
        max_channels: Largest number of channels.
        depth: Number of residual blocks, each of which doubles the size. By default it follows from the image's size:
            as many as leave maps of at least 3 x 3.

    Raises:
        ValueError: a number is below one; from `build`, the image is too small to be halved `depth` times.

    Examples:
        >>> import torch
        >>> ResNetGenerator(4, 8).build((3, 100, 60), 10)(torch.zeros(2, 10)).shape
        torch.Size([2, 3, 100, 60])
    """

    def __init__(self, channels: int = 64, max_channels: int = 512, depth: int | None = None) -> None:
        check_doubling(channels, max_channels, depth)
        self.channels = channels
        self.max_channels = max_channels
        self.depth = depth

    def build(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        depth = self.depth or depth_of(image_shape[1:])
        return channels_last(ResNetDecoder(image_shape, in_dim, self.channels, self.max_channels, depth))


class R3GANGenerator(Generator):
    """Residual blocks of grouped convolutions without any norm, for images of any size.

    Huang et al. 2025 (R3GAN), arXiv 2501.05441, section 4. Their generator for CIFAR-10 has 768 `channels` and
    `max_channels`, and 2 `blocks`.

    Args:
        channels: Channels of the maps of the image's size; twice as many at each smaller size.
        max_channels: Largest number of channels.
        depth: Number of times that the size doubles. By default it follows from the image's size: as often as leaves
            maps of at least 3 x 3.
        blocks: Number of residual blocks at each size.

    Raises:
        ValueError: a number is below one; from `build`, the image is too small to be halved `depth` times.

    Examples:
        >>> import torch
        >>> R3GANGenerator(4, 8).build((3, 50, 30), 10)(torch.zeros(2, 10)).shape
        torch.Size([2, 3, 50, 30])
    """

    def __init__(self, channels: int = 32, max_channels: int = 256, depth: int | None = None, blocks: int = 1) -> None:
        check_doubling(channels, max_channels, depth)
        if blocks < 1:
            raise ValueError(f"blocks is {blocks}; it must be at least 1")
        self.channels = channels
        self.max_channels = max_channels
        self.depth = depth
        self.blocks = blocks

    def build(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        depth = self.depth or depth_of(image_shape[1:])
        network = R3GANDecoder(image_shape, in_dim, self.channels, self.max_channels, depth, self.blocks)
        return channels_last(network)


class ACGANGenerator(Generator):
    """The generator of Odena et al. 2016, arXiv 1610.09585, appendix A, for CIFAR-10; deeper from 48 pixels on."""

    def build(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        return ACGANDecoder(image_shape, in_dim)


class PoolingGenerator(Generator):
    """The decoder of PoolingAutoencoder with a sigmoid. Its layers have the same names, so that they can be loaded."""

    def build(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        return PoolingImageDecoder(image_shape, in_dim)


class LinearGenerator(Generator):
    """One fully connected layer and a sigmoid, as a baseline."""

    def build(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(in_dim, math.prod(image_shape)), nn.Sigmoid(), nn.Unflatten(1, tuple(image_shape))
        )


class MLPGenerator(Generator):
    """Fully connected layers with ReLU between them, and a sigmoid.

    Args:
        hidden_dims: Widths of the hidden layers, from the code to the image.

    Raises:
        ValueError: a width is below one.
    """

    def __init__(self, hidden_dims: tuple[int, ...] = (256, 512)) -> None:
        if any(width < 1 for width in hidden_dims):
            raise ValueError(f"hidden_dims are {list(hidden_dims)}; each must be at least 1")
        self.hidden_dims = hidden_dims

    def build(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        layers = mlp([in_dim, *self.hidden_dims, math.prod(image_shape)], "relu")
        return nn.Sequential(*layers, nn.Sigmoid(), nn.Unflatten(1, tuple(image_shape)))
