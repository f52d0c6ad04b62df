"""Residual networks of R3GAN (Huang et al. 2025, arXiv 2501.05441, section 4), without any norm.

Departures from the paper: maps are resized by PyTorch's bilinear interpolation, for images of any size, and both
networks may work on patches of pixels, which is faster.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.networks.conv import doubling_channels
from lit_models.networks.features import FeatureNetwork
from lit_models.networks.init import fan_in_init

SLOPE = 0.2
"""Slope of LeakyReLU for negative numbers."""
GAIN = math.sqrt(2 / (1 + SLOPE**2))
"""Gain of a layer whose output has the variance of its input after LeakyReLU (He et al. 2015, arXiv 1502.01852)."""
EXPANSION = 2
"""Channels within a residual block as a multiple of those of its input."""
GROUP_SIZE = 16
"""Channels of a group in the grouped convolutions."""


class ResidualBlock(nn.Module):
    """x + f(x): convolutions of 1 x 1 to twice as many channels, of 3 x 3 in groups, and of 1 x 1; LeakyReLU between.

    Fix-up initialisation (Zhang et al. 2019, arXiv 1901.09321): the last weights start at 0, the others are scaled by
    blocks^(-1/4).

    Args:
        channels: Channels of the input and of the output.
        blocks: Number of residual blocks of the whole network.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        hidden = EXPANSION * channels
        groups = hidden // math.gcd(hidden, GROUP_SIZE)
        gain = GAIN * blocks**-0.25
        self.layers = nn.Sequential(
            *(fan_in_init(nn.Conv2d(channels, hidden, 1), gain), nn.LeakyReLU(SLOPE)),
            *(fan_in_init(nn.Conv2d(hidden, hidden, 3, padding=1, groups=groups), gain), nn.LeakyReLU(SLOPE)),
            fan_in_init(nn.Conv2d(hidden, channels, 1, bias=False), 0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        """N x channels x H x W -> the same."""
        return x + self.layers(x)


class Resize(nn.Module):
    """Bilinear interpolation to a size, and a convolution of 1 x 1 if the channels change, on the smaller maps.

    Halving takes the mean of 2 x 2 pixels; a side of odd length is rounded up.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        size: Height and width of the output.
        up: Whether the output is larger than the input.
    """

    def __init__(self, c_in: int, c_out: int, size: tuple[int, int], up: bool) -> None:
        super().__init__()
        self.conv = fan_in_init(nn.Conv2d(c_in, c_out, 1, bias=False)) if c_in != c_out else nn.Identity()
        self.size = size
        self.up = up

    def forward(self, x: Tensor) -> Tensor:
        """N x c_in x h x w -> N x c_out x H x W."""
        if self.up:
            return F.interpolate(self.conv(x), self.size, mode="bilinear")
        return self.conv(F.avg_pool2d(x, 2, ceil_mode=True))


class R3GANDecoder(nn.Module):
    """Codes to images: learned maps, weighted by the code, then blocks at each size, and a convolution of 1 x 1.

    Its output is linear. In training the discriminator sees it as it is, so that it learns to refuse pixels beyond the
    range of real images; in evaluation mode it is clipped to [0, 1].

    Args:
        image_shape: Channels, height, width.
        in_dim: Width of the code.
        channels: Channels of the largest maps; twice as many at each smaller size.
        max_channels: Largest number of channels.
        depth: Number of times that the size doubles.
        blocks: Number of residual blocks at each size.
        patch_size: Side of the patches of pixels that the largest maps stand for.

    Raises:
        ValueError: the image is too small to be halved `depth` times, or no multiple of the patches.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        in_dim: int,
        channels: int,
        max_channels: int,
        depth: int,
        blocks: int,
        patch_size: int = 1,
    ) -> None:
        super().__init__()
        sizes = r3gan_sizes(image_shape, depth, patch_size)[::-1]
        widths = doubling_channels(depth + 1, channels, max_channels)[::-1]
        self.basis = nn.Parameter(torch.randn(widths[0], *sizes[0]))
        self.weights = fan_in_init(nn.Linear(in_dim, widths[0], bias=False))
        self.stages = nn.Sequential(*_blocks(widths[0], blocks, depth))
        for (c_in, c_out), size in zip(itertools.pairwise(widths), sizes[1:], strict=True):
            self.stages.extend([Resize(c_in, c_out, size, up=True), *_blocks(c_out, blocks, depth)])
        self.to_patches = fan_in_init(nn.Conv2d(widths[-1], image_shape[0] * patch_size**2, 1, bias=False))
        self.patch_size = patch_size

    def forward(self, codes: Tensor) -> Tensor:
        """N x in_dim -> images, N x C x H x W, in [0, 1] in evaluation mode."""
        maps = self.basis * self.weights(codes)[:, :, None, None]  # (N, widths[0], h, w)
        images = (F.pixel_shuffle(self.to_patches(self.stages(maps)), self.patch_size) + 1) / 2
        return images if self.training else images.clamp(0, 1)


class R3GANFeatures(FeatureNetwork):
    """Images to features: blocks at each size from the image's down, then the sum of each map with learned weights.

    Args:
        image_shape: Channels, height, width.
        channels: Channels of the largest maps; twice as many at each smaller size.
        max_channels: Largest number of channels.
        depth: Number of times that the size is halved.
        blocks: Number of residual blocks at each size.
        patch_size: Side of the patches of pixels that the largest maps stand for.

    Raises:
        ValueError: the image is too small to be halved `depth` times, or no multiple of the patches.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: int,
        max_channels: int,
        depth: int,
        blocks: int,
        patch_size: int = 1,
    ) -> None:
        super().__init__()
        sizes = r3gan_sizes(image_shape, depth, patch_size)
        widths = doubling_channels(depth + 1, channels, max_channels)
        self.from_patches = fan_in_init(nn.Conv2d(image_shape[0] * patch_size**2, channels, 1, bias=False))
        self.stages = nn.Sequential(*_blocks(channels, blocks, depth))
        for (c_in, c_out), size in zip(itertools.pairwise(widths), sizes[1:], strict=True):
            self.stages.extend([Resize(c_in, c_out, size, up=False), *_blocks(c_out, blocks, depth)])
        self.basis = fan_in_init(nn.Conv2d(widths[-1], widths[-1], sizes[-1], groups=widths[-1], bias=False))
        self.out_dim = widths[-1]
        self.patch_size = patch_size

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W, -> N x out_dim."""
        patches = F.pixel_unshuffle(2 * images - 1, self.patch_size)  # (N, C patch_size^2, h, w)
        return self.basis(self.stages(self.from_patches(patches))).flatten(1)


def r3gan_sizes(image_shape: Sequence[int], depth: int, patch_size: int = 1) -> list[tuple[int, int]]:
    """Heights and widths of the maps from the largest down, halved and rounded up `depth` times: 28, 14, 7, 4.

    Raises:
        ValueError: the image is too small, or no multiple of the patches.
    """
    _, height, width = image_shape
    if height % patch_size or width % patch_size:
        raise ValueError(f"images of {height} x {width} cannot be cut into patches of {patch_size} x {patch_size}")
    sizes = [(height // patch_size, width // patch_size)]
    for level in range(depth):
        if min(sizes[-1]) < 2:
            raise ValueError(f"depth {depth} is too deep for images of {height} x {width}: at most {level} fit")
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def _blocks(channels: int, blocks: int, depth: int) -> list[ResidualBlock]:
    return [ResidualBlock(channels, blocks * (depth + 1)) for _ in range(blocks)]
