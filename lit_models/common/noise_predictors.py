"""Networks that predict the noise in noisy images, to be injected into diffusion and score models."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from lit_models.common.component import Component
from lit_models.networks.conditional_mlp import ConditionalMLP
from lit_models.networks.conv import depth_of
from lit_models.networks.init import channels_last
from lit_models.networks.unet import ConditionalUNet


class NoisePredictor(Component, ABC):
    """Builds a network that predicts the noise e in x_t = a_t x_0 + s_t e, or what else a model lets it predict."""

    @abstractmethod
    def build(self, image_shape: Sequence[int], num_classes: int | None = None) -> nn.Module:
        """Builds the network: (noisy images, noise levels, labels) -> prediction, N x C x H x W.

        Noisy images are N x C x H x W; levels are N, in [-2, 2]. Labels are int64, N; the label `num_classes` stands
        for any class. Without classes there are no labels.

        Raises:
            ValueError: the network cannot take images of that size.
        """


class UNet(NoisePredictor):
    """U-Net: residual blocks at falling, then at rising resolutions, with skip connections between equal resolutions.

    Ho et al. 2020, arXiv 2006.11239, appendix B, after Ronneberger et al. 2015, arXiv 1505.04597: group norm, the noise
    level as a shift and scale in each block (Nichol and Dhariwal 2021, arXiv 2102.09672), self-attention at low
    resolutions.

    It takes images of any size: a side that cannot be halved evenly is rounded up, as 25 to 13. Unless the channels of
    each resolution are given, the resolutions follow from the smaller side, so that the lowest is about 8 pixels: three
    resolutions for 28 and 32, four for 64, five for 128. Their channels are 1, 2, 2 times `channels` for three, 1, 2,
    2, 4 for four, 1, 1, 2, 2, 4 for five, and 1, 1, 2, 2, 4, 4 for six, as in the paper.

    Args:
        channels: Channels at the highest resolution; number and channels of the others follow from the size. A list:
            channels at each resolution, of which each is half the one before.
        blocks: Residual blocks at each resolution on the way down; there is one more on the way up.
        attention: Where self-attention is. `true`: once, at the lowest resolution. A number: there and in each block
            of the resolutions of at most so many pixels a side. `false`: nowhere. By default `true` for up to three
            resolutions, and 16 for more.
        patch_size: Side of the squares of pixels that the first layer folds into channels, and which then count as
            pixels. 1: single pixels.
        dropout: Dropout probability in the residual blocks.

    Raises:
        ValueError: a number is out of range; from `build`, the sides of the images are no multiples of `patch_size`.

    Examples:
        >>> import torch
        >>> network = UNet(channels=8).build((3, 100, 60))
        >>> network(torch.rand(2, 3, 100, 60), torch.tensor([0.1, 1.0])).shape
        torch.Size([2, 3, 100, 60])
    """

    def __init__(
        self,
        channels: int | tuple[int, ...] = 32,
        blocks: int = 1,
        attention: bool | int | None = None,
        patch_size: int = 1,
        dropout: float = 0.0,
    ) -> None:
        widths = (channels,) if isinstance(channels, int) else channels
        if not widths or min(widths) < 1 or blocks < 1 or patch_size < 1 or not 0 <= dropout < 1:
            raise ValueError(
                f"channels is {channels if isinstance(channels, int) else list(channels)}, blocks {blocks}, patch_size"
                f" {patch_size} and dropout {dropout}; give at least one number of channels, all of them, blocks and"
                " patch_size at least 1, and dropout in [0, 1)"
            )
        if attention is not None and attention < 0:
            raise ValueError(f"attention is {attention}; it must be true, false or a number of pixels")
        self.channels = channels
        self.blocks = blocks
        self.attention = attention
        self.patch_size = patch_size
        self.dropout = dropout

    def build(self, image_shape: Sequence[int], num_classes: int | None = None) -> nn.Module:
        image_channels, height, width = image_shape
        if height % self.patch_size or width % self.patch_size:
            sides = math.gcd(height, width)
            fitting = max(side for side in range(1, self.patch_size) if sides % side == 0)
            raise ValueError(
                f"images of {height} x {width} cannot be cut into patches of {self.patch_size} x {self.patch_size};"
                f" use --model.network.patch_size {fitting}, or images whose sides are multiples of {self.patch_size}"
            )
        size = (height // self.patch_size, width // self.patch_size)
        channels = _channels_for(size, self.channels) if isinstance(self.channels, int) else self.channels
        attention = (len(channels) <= 3 or 16) if self.attention is None else self.attention
        return channels_last(
            ConditionalUNet(
                image_channels,
                channels,
                self.blocks,
                bool(attention),
                _levels_within(size, len(channels), 0 if isinstance(attention, bool) else attention),
                self.patch_size,
                self.dropout,
                num_classes,
            )
        )


def _channels_for(size: Sequence[int], channels: int) -> list[int]:
    """Channels at each resolution, from `channels` at the highest, for maps of a height and width."""
    levels = depth_of(size)
    first = 1 if levels <= 4 else 0
    return [channels * 2 ** min(level // 2, 2) for level in range(first, first + levels)]


def _levels_within(size: Sequence[int], levels: int, side: int) -> int:
    """Number of the resolutions, each half the one before, of at most `side` pixels a side."""
    return sum(math.ceil(max(size) / 2**level) <= side for level in range(levels))


class MLPNoisePredictor(NoisePredictor):
    """Fully connected network, for points of the plane and images of few pixels.

    Args:
        hidden_dims: Widths of the hidden layers.

    Raises:
        ValueError: there is no hidden layer, or a width is below 1.

    Examples:
        >>> import torch
        >>> network = MLPNoisePredictor(hidden_dims=(8,)).build((1, 1, 2))
        >>> network(torch.rand(3, 1, 1, 2), torch.ones(3)).shape
        torch.Size([3, 1, 1, 2])
    """

    def __init__(self, hidden_dims: tuple[int, ...] = (128, 128, 128)) -> None:
        if not hidden_dims or min(hidden_dims) < 1:
            raise ValueError(f"hidden_dims is {list(hidden_dims)}; it needs at least one width, each at least 1")
        self.hidden_dims = hidden_dims

    def build(self, image_shape: Sequence[int], num_classes: int | None = None) -> nn.Module:
        return ConditionalMLP(image_shape, self.hidden_dims, num_classes)
