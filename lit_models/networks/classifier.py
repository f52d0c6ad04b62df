"""Convolutional classifiers: a stack of stages, each of plain, residual or inception blocks, then pooling."""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

BlockKind = Literal["plain", "residual", "inception"]


def conv_unit(c_in: int, c_out: int, kernel_size: int, batch_norm: bool) -> nn.Sequential:
    """Convolution at full size, batch normalisation if asked for (its shift replaces the bias), ReLU."""
    unit = nn.Sequential(nn.Conv2d(c_in, c_out, kernel_size, padding=kernel_size // 2, bias=not batch_norm))
    if batch_norm:
        unit.append(nn.BatchNorm2d(c_out))
    return unit.append(nn.ReLU())


class PlainBlock(nn.Sequential):
    """One convolution and what follows it."""

    def __init__(self, c_in: int, c_out: int, batch_norm: bool) -> None:
        super().__init__(conv_unit(c_in, c_out, 3, batch_norm))


class ResidualBlock(nn.Module):
    """y = relu(x + f(x)), the skip a 1x1 convolution where the channels change (He et al. 2015, 1512.03385)."""

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
        return torch.relu(self.skip(x) + self.residual(x))  # (N, c_out, H, W)


class InceptionBlock(nn.Module):
    """Kernels of 1, 3, 5 and a pooled branch side by side (Szegedy et al. 2014, 1409.4842, fig. 2b)."""

    def __init__(self, c_in: int, c_out: int, batch_norm: bool) -> None:
        super().__init__()
        if c_out % 4:
            raise ValueError(f"an inception block of {c_out} channels cannot be cut into four equal branches")
        part = c_out // 4
        reduced = max(part // 2, 1)
        self.branches = nn.ModuleList(
            [
                conv_unit(c_in, part, 1, batch_norm),
                nn.Sequential(conv_unit(c_in, reduced, 1, batch_norm), conv_unit(reduced, part, 3, batch_norm)),
                nn.Sequential(conv_unit(c_in, reduced, 1, batch_norm), conv_unit(reduced, part, 5, batch_norm)),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_unit(c_in, part, 1, batch_norm)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)  # (N, c_out, H, W)


BLOCKS: dict[BlockKind, type[nn.Module]] = {
    "plain": PlainBlock,
    "residual": ResidualBlock,
    "inception": InceptionBlock,
}


class ConvFeatures(nn.Module):
    """Stages of blocks, each halved by max pooling but the last, which is averaged over space; then one layer.

    Args:
        image_shape: channels, height, width.
        channels: of each stage.
        block: what a stage is made of.
        feature_dim: width of the features.
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
            raise ValueError(f"{len(channels)} stages are too many for images of {image_shape[1]} x {image_shape[2]}")
        self.stages = nn.Sequential()
        ends = [image_shape[0], *channels]
        for stage, (c_in, c_out) in enumerate(itertools.pairwise(ends)):
            if stage:
                self.stages.append(nn.MaxPool2d(2))
            self.stages.append(BLOCKS[block](c_in, c_out, batch_norm))
        self.stages.to(memory_format=torch.channels_last)
        self.project = nn.Sequential(nn.Linear(ends[-1], feature_dim), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)  # half the time of NCHW on a CPU
        maps = self.stages(images)  # (N, channels[-1], h, w)
        return self.project(maps.mean(dim=(2, 3)))  # (N, feature_dim)
