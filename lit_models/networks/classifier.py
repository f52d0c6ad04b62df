"""Features of convolutional classifiers: stages of plain, residual or inception blocks, then global pooling."""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

BlockKind = Literal["plain", "residual", "inception"]


def conv_unit(c_in: int, c_out: int, kernel_size: int, batch_norm: bool) -> nn.Sequential:
    """Convolution of stride 1, optional batch normalisation (whose shift replaces the bias), ReLU."""
    unit = nn.Sequential(nn.Conv2d(c_in, c_out, kernel_size, padding=kernel_size // 2, bias=not batch_norm))
    if batch_norm:
        unit.append(nn.BatchNorm2d(c_out))
    return unit.append(nn.ReLU())


class PlainBlock(nn.Sequential):
    """One 3 x 3 convolution with optional batch normalisation and ReLU: N x c_in x H x W -> N x c_out x H x W."""

    def __init__(self, c_in: int, c_out: int, batch_norm: bool) -> None:
        super().__init__(conv_unit(c_in, c_out, 3, batch_norm))


class ResidualBlock(nn.Module):
    """y = relu(skip(x) + f(x)); skip is a 1x1 convolution if c_in != c_out (He et al. 2015, arXiv 1512.03385)."""

    def __init__(self, c_in: int, c_out: int, batch_norm: bool) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv_unit(c_in, c_out, 3, batch_norm),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=not batch_norm),
        )
        if batch_norm:
            self.residual.append(nn.BatchNorm2d(c_out))
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N x c_in x H x W -> N x c_out x H x W."""
        return torch.relu(self.skip(x) + self.residual(x))


class InceptionBlock(nn.Module):
    """Parallel branches with kernels of 1, 3, 5 and with pooling (Szegedy et al. 2014, arXiv 1409.4842, fig. 2b).

    Raises:
        ValueError: `c_out` is not a multiple of 4.
    """

    def __init__(self, c_in: int, c_out: int, batch_norm: bool) -> None:
        super().__init__()
        if c_out % 4:
            raise ValueError(
                f"an inception block of {c_out} channels cannot be divided into four equal branches;"
                " give a multiple of 4"
            )
        width = c_out // 4
        reduced = max(width // 2, 1)
        self.branches = nn.ModuleList(
            [
                conv_unit(c_in, width, 1, batch_norm),
                nn.Sequential(conv_unit(c_in, reduced, 1, batch_norm), conv_unit(reduced, width, 3, batch_norm)),
                nn.Sequential(conv_unit(c_in, reduced, 1, batch_norm), conv_unit(reduced, width, 5, batch_norm)),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_unit(c_in, width, 1, batch_norm)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """N x c_in x H x W -> N x c_out x H x W."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


BLOCKS: dict[BlockKind, type[nn.Module]] = {
    "plain": PlainBlock,
    "residual": ResidualBlock,
    "inception": InceptionBlock,
}


class ConvFeatures(nn.Module):
    """Stages of one block each with max pooling between them, global average pooling, then a linear layer and a ReLU.

    Args:
        image_shape: Channels, height, width.
        channels: Output channels of each stage.
        block: Kind of block in each stage.
        batch_norm: Applies batch normalisation after each convolution.
        feature_dim: Width of the features.

    Raises:
        ValueError: the image is too small for so many stages.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: Sequence[int],
        block: BlockKind,
        batch_norm: bool,
        feature_dim: int,
    ) -> None:
        super().__init__()
        if min(image_shape[1:]) < 2 ** (len(channels) - 1):
            raise ValueError(
                f"{len(channels)} stages are too many for images of {image_shape[1]} x {image_shape[2]};"
                f" give the channels of at most {min(image_shape[1:]).bit_length()}"
            )
        self.stages = nn.Sequential()
        ends = [image_shape[0], *channels]
        for stage, (c_in, c_out) in enumerate(itertools.pairwise(ends)):
            if stage:
                self.stages.append(nn.MaxPool2d(2))
            self.stages.append(BLOCKS[block](c_in, c_out, batch_norm))
        self.stages.to(memory_format=torch.channels_last)
        self.project = nn.Sequential(nn.Linear(ends[-1], feature_dim), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x feature_dim."""
        images = images.contiguous(memory_format=torch.channels_last)  # takes half the time of NCHW on a CPU
        maps = self.stages(images)  # (N, channels[-1], h, w)
        return self.project(maps.mean(dim=(2, 3)))
