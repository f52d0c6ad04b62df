"""Convolutional encoder with max pooling, and a decoder that upsamples by fully connected layers."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from lit_models.networks.conv import strided_sizes

CHANNELS = (4, 8, 16)
"""Output channels of the encoder's three blocks."""
DECODER_CHANNELS = (8, 4)
"""Channels of the decoder's feature maps at half and at full size."""


class PoolingEncoder(nn.Module):
    """Blocks of a 3 x 3 convolution of stride 1, ReLU and 2 x 2 max pooling, then one fully connected layer.

    Pooling rounds up, so that 28 x 28 becomes 14, 7 and 4.

    Args:
        image_shape: Channels, height, width.
        out_dim: Width of the output.
    """

    def __init__(self, image_shape: Sequence[int], out_dim: int) -> None:
        super().__init__()
        height, width = strided_sizes((image_shape[1], image_shape[2]), len(CHANNELS), 3)[-1]
        self.blocks = nn.Sequential()
        for c_in, c_out in itertools.pairwise([image_shape[0], *CHANNELS]):
            self.blocks.append(nn.Conv2d(c_in, c_out, 3, padding=1))
            self.blocks.append(nn.ReLU())
            self.blocks.append(nn.MaxPool2d(2, ceil_mode=True))
        self.project = nn.Linear(CHANNELS[-1] * height * width, out_dim)

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x out_dim."""
        maps = self.blocks(images)  # (N, 16, h, w)
        return self.project(maps.flatten(1))


class PoolingDecoder(nn.Module):
    """A linear layer to 8 half-size feature maps, convolution, ReLU, a linear layer to 4 full-size maps, convolution.

    The four layers are called `expand`, `refine`, `enlarge` and `paint`. A GAN's `generator_layers` refers to them by
    these names, to start from the weights of a trained decoder.

    Args:
        image_shape: Channels, height, width.
        in_dim: Width of the code.
    """

    def __init__(self, image_shape: Sequence[int], in_dim: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        half, full = DECODER_CHANNELS
        self.small = (half, (height + 1) // 2, (width + 1) // 2)
        self.large = (full, height, width)
        self.expand = nn.Linear(in_dim, half * self.small[1] * self.small[2])
        self.refine = nn.Conv2d(half, half, 3, padding=1)
        self.enlarge = nn.Linear(half * self.small[1] * self.small[2], full * height * width)
        self.paint = nn.Conv2d(full, channels, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """N x in_dim -> logits of the pixels, N x C x H x W."""
        maps = self.expand(codes).unflatten(1, self.small)  # (N, 8, H/2, W/2)
        maps = self.refine(maps).relu()
        maps = self.enlarge(maps.flatten(1)).unflatten(1, self.large)  # (N, 4, H, W)
        return self.paint(maps)


class PoolingImageDecoder(PoolingDecoder):
    """PoolingDecoder with a sigmoid: codes, N x in_dim, to images in [0, 1], N x C x H x W."""

    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes).sigmoid()
