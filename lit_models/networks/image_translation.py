"""Networks for image-to-image translation that keep the size, for images of any size."""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.networks.conv import doubling_channels
from lit_models.networks.init import dcgan_init
from lit_models.networks.norms import NORMS, Norm

MIN_RESNET_SIDE = 5
"""Images of this side have two pixels a side at a quarter of their size, the least that reflection padding needs."""


def identity_conv_net(in_channels: int, out_channels: int, channels: Sequence[int], kernel_size: int) -> nn.Sequential:
    """Convolutions at full size with ReLU between them, initialised near the identity.

    The random initial weights are added to weights that pass each channel on unchanged.

    Args:
        in_channels: Channels of the input images.
        out_channels: Channels of the output images.
        channels: Channels of the hidden maps.
        kernel_size: Side of the kernels, an odd number.
    """
    layers = nn.Sequential()
    for c_in, c_out in itertools.pairwise([in_channels, *channels, out_channels]):
        convolution = nn.Conv2d(c_in, c_out, kernel_size, padding=kernel_size // 2)
        layers.extend([_add_identity(convolution), nn.ReLU()])
    return layers[:-1]


class ResNetGenerator(nn.Module):
    """Two convolutions of stride 2, residual blocks, and two upsampling convolutions; tanh.

    Zhu et al. 2017, arXiv 1703.10593, section 7.2, with nearest-neighbour upsampling.

    Args:
        in_channels: Channels of the input images.
        out_channels: Channels of the output images.
        channels: Channels of the first maps.
        blocks: Number of residual blocks, at a quarter of the image's size.
        norm: Layer after each convolution but the last.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: int, blocks: int, norm: Norm) -> None:
        super().__init__()
        c = channels
        self.to_half = nn.Sequential(_conv_block(in_channels, c, 7, 1, norm), _conv_block(c, 2 * c, 3, 2, norm))
        self.to_quarter = _conv_block(2 * c, 4 * c, 3, 2, norm)
        self.blocks = nn.Sequential(*(_ResidualBlock(4 * c, norm) for _ in range(blocks)))
        self.from_quarter = _conv_block(4 * c, 2 * c, 3, 1, norm)
        self.from_half = _conv_block(2 * c, c, 3, 1, norm)
        self.to_image = nn.Conv2d(c, out_channels, 7, padding=3, padding_mode="reflect")
        dcgan_init(self)

    def forward(self, images: Tensor) -> Tensor:
        """N x in_channels x H x W in [0, 1] -> N x out_channels x H x W in [0, 1].

        Raises:
            ValueError: the images are too small.
        """
        check_resnet_size(images.shape[2:])
        half = self.to_half(2 * images - 1)  # (N, 2c, H / 2, W / 2)
        maps = self.blocks(self.to_quarter(half))  # (N, 4c, H / 4, W / 4)
        maps = self.from_quarter(_upsample_like(maps, half))  # (N, 2c, H / 2, W / 2)
        maps = self.from_half(_upsample_like(maps, images))  # (N, c, H, W)
        return (self.to_image(maps).tanh() + 1) / 2


class UNetGenerator(nn.Module):
    """Convolutions of stride 2, then upsampling convolutions that also take the maps of the way down; tanh.

    Ronneberger et al. 2015, arXiv 1505.04597, in the form of Isola et al. 2016 (pix2pix), arXiv 1611.07004, section
    6.1, with nearest-neighbour upsampling.

    Args:
        in_channels: Channels of the input images.
        out_channels: Channels of the output images.
        channels: Channels of the first maps; twice as many at each smaller size, at most eight times as many.
        depth: Number of convolutions of stride 2.
        dropout: Probability that training drops an activation on the way up, in maps of a quarter of the size or less.
        norm: Layer after each convolution but the first, the innermost and the last.
    """

    def __init__(
        self, in_channels: int, out_channels: int, channels: int, depth: int, dropout: float, norm: Norm
    ) -> None:
        super().__init__()
        widths = doubling_channels(depth, channels, 8 * channels)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (c_in, c_out) in enumerate(itertools.pairwise([in_channels, *widths])):
            self.down.append(_conv_block(c_in, c_out, 4, 2, norm if 0 < level < depth - 1 else "none", leaky=True))
        for level in reversed(range(1, depth)):
            below = widths[level] * (1 if level == depth - 1 else 2)
            block = _conv_block(below, widths[level - 1], 3, 1, norm)
            self.up.append(block.append(nn.Dropout(dropout)) if dropout and level > 1 else block)
        self.to_image = nn.Conv2d(widths[0] * (1 if depth == 1 else 2), out_channels, 3, padding=1)
        dcgan_init(self)

    def forward(self, images: Tensor) -> Tensor:
        """N x in_channels x H x W in [0, 1] -> N x out_channels x H x W in [0, 1].

        Raises:
            ValueError: the images are too small.
        """
        check_unet_size(images.shape[2:], len(self.down))
        maps, skips = 2 * images - 1, [images]
        for layer in self.down:
            maps = layer(maps)
            skips.append(maps)
        skips.pop()
        for layer in self.up:
            skip = skips.pop()
            maps = torch.cat([layer(_upsample_like(maps, skip)), skip], dim=1)
        return (self.to_image(_upsample_like(maps, images)).tanh() + 1) / 2


class _ResidualBlock(nn.Module):
    """x + f(x) of two convolutions (He et al. 2015, arXiv 1512.03385), without ReLU after the sum."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _conv_block(channels, channels, 3, 1, norm), *_conv_block(channels, channels, 3, 1, norm)[:-1]
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual(x)


def check_resnet_size(size: Sequence[int]) -> None:
    """
    Raises:
        ValueError: images of this height and width are too small for ResNetGenerator.
    """
    if min(size) < MIN_RESNET_SIDE:
        raise ValueError(
            f"images of {size[0]} x {size[1]} are too small for residual blocks at a quarter of their size: use"
            " ConvTranslator"
        )


def check_unet_size(size: Sequence[int], depth: int) -> None:
    """
    Raises:
        ValueError: images of this height and width are too small for UNetGenerator.
    """
    if min(size) < 2**depth:
        deepest = min(size).bit_length() - 1
        advice = f"give at most {deepest}" if deepest else "use ConvTranslator"
        raise ValueError(f"depth {depth} is too deep for images of {size[0]} x {size[1]}: {advice}")


def _conv_block(c_in: int, c_out: int, kernel_size: int, stride: int, norm: Norm, leaky: bool = False) -> nn.Sequential:
    """Convolution, norm, activation. Convolutions of stride 1 use reflection padding."""
    mode: Literal["reflect", "zeros"] = "reflect" if stride == 1 else "zeros"
    padding = kernel_size // 2 if stride == 1 else (kernel_size - 1) // 2
    bias = norm in ("layer", "none")  # the other norms subtract it again
    block = nn.Sequential(nn.Conv2d(c_in, c_out, kernel_size, stride, padding, bias=bias, padding_mode=mode))
    if norm != "none":
        block.append(NORMS[norm](c_out))
    return block.append(nn.LeakyReLU(0.2) if leaky else nn.ReLU())


@torch.no_grad()
def _add_identity(convolution: nn.Conv2d) -> nn.Conv2d:
    """Adds one to the weights that pass each channel on unchanged."""
    centre = convolution.kernel_size[0] // 2
    for channel in range(min(convolution.in_channels, convolution.out_channels)):
        convolution.weight[channel, channel, centre, centre] += 1
    return convolution


def _upsample_like(maps: Tensor, like: Tensor) -> Tensor:
    """Nearest-neighbour upsampling of maps to the height and width of others."""
    return F.interpolate(maps, like.shape[2:], mode="nearest")
