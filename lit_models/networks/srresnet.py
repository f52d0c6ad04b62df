"""Network from small images to large ones, for images of any size."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SRResNetGenerator(nn.Module):
    """Residual blocks at the small size, then sub-pixel convolutions; the output is added to the bicubic upsampling.

    Ledig et al. 2016, arXiv 1609.04802, section 2.1.1, with the sub-pixel convolutions of Shi et al. 2016, arXiv
    1609.05158.

    Args:
        in_channels: Channels of the input: the image's, then any others.
        out_channels: Channels of the image.
        factor: Factor between the sides of small and large images, a power of two.
        channels: Channels of all maps.
        blocks: Number of residual blocks.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.factor = factor
        self.first = nn.Sequential(nn.Conv2d(in_channels, channels, 9, padding=4), nn.PReLU())
        self.blocks = nn.Sequential(*(_ResidualBlock(channels) for _ in range(blocks)), *_conv_norm(channels))
        self.upsample = nn.Sequential()
        for _ in range(factor.bit_length() - 1):
            pixels = nn.Conv2d(channels, 4 * channels, 3, padding=1)
            self.upsample.extend([pixels, nn.PixelShuffle(2), nn.PReLU()])
        self.last = nn.Conv2d(channels, out_channels, 9, padding=4)
        nn.init.normal_(self.last.weight, 0.0, 1e-3)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """N x in_channels x h x w -> N x out_channels x (factor h) x (factor w) in [0, 1]."""
        maps = self.first(2 * images - 1)  # (N, c, h, w)
        maps = self.upsample(maps + self.blocks(maps))  # (N, c, H, W)
        upsampled = bicubic_upsample(images[:, : self.out_channels], self.factor)
        return torch.clamp(upsampled + self.last(maps).float(), 0, 1)


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(*_conv_norm(channels), nn.PReLU(), *_conv_norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual(x)


def _conv_norm(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)


def bicubic_upsample(images: Tensor, factor: int) -> Tensor:
    """Bicubic upsampling by a factor, in single precision. The values may exceed [0, 1]."""
    return F.interpolate(images.float(), scale_factor=factor, mode="bicubic", antialias=True)
