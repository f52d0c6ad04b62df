"""Residual convolutional encoder and decoder, for any image shape."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from lit_models.networks.conv import strided_sizes
from lit_models.networks.unet import ResidualBlock, group_norm
from lit_models.networks.upsample_conv import UpsampleConv

KERNEL_SIZE = 3


class ResidualEncoder(nn.Module):
    """Convolutions of stride 2, each with residual blocks after it, then a fully connected layer.

    Args:
        image_shape: Channels, height, width.
        channels: Channels at each resolution, from half the image's size down.
        blocks: Number of residual blocks at each resolution.
        out_dim: Width of the output.

    Raises:
        ValueError: the image is too small for so many convolutions.
    """

    def __init__(self, image_shape: Sequence[int], channels: Sequence[int], blocks: int, out_dim: int) -> None:
        super().__init__()
        height, width = strided_sizes((image_shape[1], image_shape[2]), len(channels), KERNEL_SIZE)[-1]
        self.layers = down_layers(image_shape[0], channels, blocks)
        self.layers.extend([group_norm(channels[-1]), nn.SiLU()])
        self.head = nn.Linear(channels[-1] * height * width, out_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W -> N x out_dim."""
        return self.head(self.layers(2 * images - 1).flatten(1))


class ResidualDecoder(nn.Module):
    """Mirror image of ResidualEncoder, with nearest-neighbour upsampling before convolutions; returns logits.

    Args:
        image_shape: Channels, height, width.
        channels: Channels at each resolution of the encoder, from half the image's size down.
        blocks: Number of residual blocks at each resolution.
        in_dim: Width of the code.

    Raises:
        ValueError: the image is too small for so many convolutions.
    """

    def __init__(self, image_shape: Sequence[int], channels: Sequence[int], blocks: int, in_dim: int) -> None:
        super().__init__()
        *larger, (height, width) = strided_sizes((image_shape[1], image_shape[2]), len(channels), KERNEL_SIZE)
        self.head = nn.Sequential(
            nn.Linear(in_dim, channels[-1] * height * width), nn.Unflatten(1, (channels[-1], height, width))
        )
        self.layers = up_layers(image_shape[0], channels, blocks, larger)

    def forward(self, codes: Tensor) -> Tensor:
        """N x in_dim -> logits, N x C x H x W."""
        return self.layers(self.head(codes))


def down_layers(image_channels: int, channels: Sequence[int], blocks: int) -> nn.Sequential:
    """Convolutions of stride 2, each with `blocks` residual blocks after it.

    Args:
        image_channels: Channels of the image.
        channels: Channels at each resolution, from half the image's size down.
        blocks: Number of residual blocks at each resolution.
    """
    layers = nn.Sequential()
    for c_in, c_out in itertools.pairwise([image_channels, *channels]):
        layers.append(nn.Conv2d(c_in, c_out, KERNEL_SIZE, stride=2, padding=1))
        layers.extend(ResidualBlock(c_out, c_out) for _ in range(blocks))
    return layers


def up_layers(
    image_channels: int, channels: Sequence[int], blocks: int, sizes: Sequence[tuple[int, int]]
) -> nn.Sequential:
    """Mirror image of `down_layers`.

    Args:
        image_channels: Channels of the image.
        channels: Channels at each resolution, from half the image's size down.
        blocks: Number of residual blocks at each resolution.
        sizes: Heights and widths before each convolution of `down_layers`, from the image's down.
    """
    layers, widths = nn.Sequential(), channels[::-1]
    for c_in, c_out, size in zip(widths, [*widths[1:], image_channels], sizes[::-1], strict=True):
        layers.extend(ResidualBlock(c_in, c_in) for _ in range(blocks))
        layers.extend([group_norm(c_in), nn.SiLU(), UpsampleConv(c_in, c_out, size)])
    return layers
