"""Residual networks of GANs (Gulrajani et al. 2017, arXiv 1704.00028; Miyato et al. 2018, arXiv 1802.05957)."""

import itertools
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.networks.conv import doubling_channels
from lit_models.networks.dcgan import dcgan_sizes
from lit_models.networks.features import FeatureNetwork
from lit_models.networks.init import glorot_init
from lit_models.networks.minibatch_std import MinibatchStd
from lit_models.networks.norms import NORMS, add_spectral_norm
from lit_models.networks.upsample_conv import UpsampleConv

SingleImageNorm = Literal["layer", "none"]
"""Norms that treat each image alone, as a gradient penalty needs."""


class UpBlock(nn.Module):
    """skip(x) + f(x): batch norm, ReLU and a convolution, twice, with nearest-neighbour upsampling before the first.

    The convolutions have no bias: the batch norms after them and after the next blocks would subtract it again.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        size: Height and width of the output.
    """

    def __init__(self, c_in: int, c_out: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *(nn.BatchNorm2d(c_in), nn.ReLU(), _residual_init(UpsampleConv(c_in, c_out, size, bias=False))),
            *(nn.BatchNorm2d(c_out), nn.ReLU(), _conv(c_out, c_out, bias=False)),
        )
        self.skip = nn.Sequential(_skip_conv(c_in, c_out, bias=False), nn.Upsample(size))

    def forward(self, x: Tensor) -> Tensor:
        """N x c_in x h x w -> N x c_out x H x W."""
        return self.skip(x) + self.residual(x)


class DownBlock(nn.Module):
    """skip(x) + f(x): norm, ReLU and a convolution, twice, then average pooling that halves the size.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        halve: Whether the size is halved; a side of odd length loses its last pixel.
        norm: Layer before each ReLU.
        first: Whether x is the image, to which neither norm nor ReLU is applied.
    """

    def __init__(self, c_in: int, c_out: int, halve: bool, norm: SingleImageNorm, first: bool = False) -> None:
        super().__init__()
        hidden = c_out if first else c_in
        self.residual = nn.Sequential()
        if not first:
            self.residual.extend([*_norm(norm, c_in), nn.ReLU()])
        self.residual.append(_conv(c_in, hidden))
        self.residual.extend([*([] if first else _norm(norm, hidden)), nn.ReLU(), _conv(hidden, c_out)])
        self.skip = nn.Sequential()
        if halve:
            self.residual.append(nn.AvgPool2d(2))
            self.skip.append(nn.AvgPool2d(2))
        if halve or c_in != c_out:
            self.skip.append(_skip_conv(c_in, c_out))

    def forward(self, x: Tensor) -> Tensor:
        """N x c_in x H x W -> N x c_out x H x W, or half as high and wide."""
        return self.skip(x) + self.residual(x)


class ResNetDecoder(nn.Module):
    """Codes to images: a fully connected layer to small maps, then blocks that double the size; tanh.

    Args:
        image_shape: Channels, height, width.
        in_dim: Width of the code.
        channels: Channels of the largest maps; each smaller size has twice as many.
        max_channels: Largest number of channels.
        depth: Number of blocks.

    Raises:
        ValueError: the image is too small to be halved `depth` times.
    """

    def __init__(self, image_shape: Sequence[int], in_dim: int, channels: int, max_channels: int, depth: int) -> None:
        super().__init__()
        sizes = dcgan_sizes(image_shape, depth)[::-1]
        widths = doubling_channels(depth + 1, channels, max_channels)[::-1]
        (height, width), *larger = sizes
        self.project = nn.Sequential(
            glorot_init(nn.Linear(in_dim, widths[0] * height * width)), nn.Unflatten(1, (widths[0], height, width))
        )
        blocks = zip(itertools.pairwise(widths), larger, strict=True)
        self.blocks = nn.Sequential(*(UpBlock(c_in, c_out, size) for (c_in, c_out), size in blocks))
        to_image = glorot_init(nn.Conv2d(widths[-1], image_shape[0], 3, padding=1))
        self.to_image = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU(), to_image)

    def forward(self, codes: Tensor) -> Tensor:
        """N x in_dim -> images in [0, 1], N x C x H x W."""
        maps = self.blocks(self.project(codes))  # (N, channels, H, W)
        return (self.to_image(maps).tanh() + 1) / 2


class ResNetFeatures(FeatureNetwork):
    """Images to features: blocks that halve the size, blocks that keep it, a ReLU, and a sum over all positions.

    Args:
        image_shape: Channels, height, width.
        channels: Channels after the first block; each block doubles them.
        max_channels: Largest number of channels.
        depth: Number of blocks that halve the size.
        last_blocks: Number of blocks after them, which keep the size.
        norm: Layer before each ReLU.
        spectral_norm: Whether each weight is divided by its spectral norm.
        minibatch_std: Whether the minibatch standard deviation is appended to the last maps.

    Raises:
        ValueError: the image is too small to be halved `depth` times.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: int,
        max_channels: int,
        depth: int,
        last_blocks: int,
        norm: SingleImageNorm,
        spectral_norm: bool,
        minibatch_std: bool,
    ) -> None:
        super().__init__()
        dcgan_sizes(image_shape, depth)
        widths = [image_shape[0], *doubling_channels(depth + last_blocks, channels, max_channels)]
        self.blocks = nn.Sequential()
        for level, (c_in, c_out) in enumerate(itertools.pairwise(widths)):
            self.blocks.append(DownBlock(c_in, c_out, level < depth, norm, first=level == 0))
        self.minibatch_std = MinibatchStd() if minibatch_std else nn.Identity()
        self.out_dim = widths[-1] + minibatch_std
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W, -> N x out_dim."""
        maps = self.minibatch_std(F.relu(self.blocks(2 * images - 1)))  # (N, out_dim, h, w)
        return maps.sum(dim=(2, 3))


def _residual_init(convolution: nn.Conv2d) -> nn.Conv2d:
    return glorot_init(convolution, gain=2**0.5)


def _conv(c_in: int, c_out: int, bias: bool = True) -> nn.Conv2d:
    return _residual_init(nn.Conv2d(c_in, c_out, 3, padding=1, bias=bias))


def _skip_conv(c_in: int, c_out: int, bias: bool = True) -> nn.Conv2d:
    return glorot_init(nn.Conv2d(c_in, c_out, 1, bias=bias))


def _norm(norm: SingleImageNorm, channels: int) -> list[nn.Module]:
    return [] if norm == "none" else [NORMS[norm](channels)]
