"""Encoder by max pooling, and a decoder that enlarges by fully connected layers."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from lit_models.networks.conv import strided_sizes

CHANNELS = (4, 8, 16)
"""Of the encoder's three blocks."""
DECODER_CHANNELS = (8, 4)
"""Of the decoder's maps at half and at full size."""


class PoolingEncoder(nn.Module):
    """Blocks of a 3 x 3 convolution at full size, ReLU and 2 x 2 max pooling, then one fully connected layer.

    Pooling keeps the odd row and column that is left over, so that 28 x 28 becomes 14, 7 and 4.

    Args:
        image_shape: channels, height, width.
        out_dim: width of the output.
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
        maps = self.blocks(images)  # (N, 16, h, w)
        return self.project(maps.flatten(1))  # (N, out_dim)


class PoolingDecoder(nn.Module):
    """A fully connected layer to 8 maps of half the size, convolution, ReLU; another to 4 whole maps, convolution.

    Its four layers, `expand`, `refine`, `enlarge` and `paint`, keep their names, so that another model can take their
    weights, all or some, out of a checkpoint.

    Args:
        image_shape: channels, height, width.
        in_dim: width of the code.
    """

    def __init__(self, image_shape: Sequence[int], in_dim: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        half, whole = DECODER_CHANNELS
        self.small = (half, (height + 1) // 2, (width + 1) // 2)
        self.large = (whole, height, width)
        self.expand = nn.Linear(in_dim, half * self.small[1] * self.small[2])
        self.refine = nn.Conv2d(half, half, 3, padding=1)
        self.enlarge = nn.Linear(half * self.small[1] * self.small[2], whole * height * width)
        self.paint = nn.Conv2d(whole, channels, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits of the pixels, N x C x H x W."""
        maps = self.expand(codes).unflatten(1, self.small)  # (N, 8, H/2, W/2)
        maps = self.refine(maps).relu()
        maps = self.enlarge(maps.flatten(1)).unflatten(1, self.large)  # (N, 4, H, W)
        return self.paint(maps)
