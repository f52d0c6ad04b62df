"""Generators of large images out of small ones, to be injected into a model; for images of any size."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.component import Component
from lit_models.networks.init import channels_last


class Upscaler(Component, ABC):
    @abstractmethod
    def network(self, in_channels: int, out_channels: int, factor: int) -> nn.Module:
        """Images, N x in_channels x h x w, to N x out_channels x (factor h) x (factor w).

        The first out_channels of the input are the small image in [0, 1], any others noise.
        """


class SRResNet(Upscaler):
    """Residual blocks at the small size, then the pixels of each doubling out of channels.

    Ledig et al. 2016, arXiv 1609.04802, section 2.1.1, with the sub-pixel convolutions of Shi et al. 2016, arXiv
    1609.05158. What it makes is added to the bicubic enlargement, which it starts from.

    Args:
        channels: of all maps, 64 in the paper.
        blocks: residual blocks, 16 in the paper.

    Raises:
        ValueError: a number is too small; from `network`, the factor is no power of two.
    """

    def __init__(self, channels: int = 32, blocks: int = 4) -> None:
        if channels < 1 or blocks < 0:
            raise ValueError(f"channels is {channels} and blocks {blocks}; they must be at least 1 and 0")
        self.channels = channels
        self.blocks = blocks

    def network(self, in_channels: int, out_channels: int, factor: int) -> nn.Module:
        if factor < 2 or factor & (factor - 1):
            raise ValueError(f"SRResNet enlarges by powers of two, not by {factor}")
        return channels_last(_SRResNet(in_channels, out_channels, factor, self.channels, self.blocks))


class _SRResNet(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, factor: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.factor = factor
        self.first = nn.Sequential(nn.Conv2d(in_channels, channels, 9, padding=4), nn.PReLU())
        self.blocks = nn.Sequential(*(_Block(channels) for _ in range(blocks)), *_normed(channels))
        self.enlarge = nn.Sequential()
        for _ in range(factor.bit_length() - 1):
            pixels = nn.Conv2d(channels, 4 * channels, 3, padding=1)
            self.enlarge.extend([pixels, nn.PixelShuffle(2), nn.PReLU()])
        self.last = nn.Conv2d(channels, out_channels, 9, padding=4)
        nn.init.normal_(self.last.weight, 0.0, 1e-3)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(2 * images - 1)  # (N, c, h, w)
        maps = self.enlarge(maps + self.blocks(maps))  # (N, c, H, W)
        return torch.clamp(bicubic(images[:, : self.out_channels], self.factor) + self.last(maps).float(), 0, 1)


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(*_normed(channels), nn.PReLU(), *_normed(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual(x)


def _normed(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)


def bicubic(images: Tensor, factor: int) -> Tensor:
    """Enlarged by that factor, in single precision; beyond [0, 1] where the curve overshoots."""
    return F.interpolate(images.float(), scale_factor=factor, mode="bicubic", antialias=True)
