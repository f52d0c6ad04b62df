"""Networks that compute features of images, for discriminators."""

import math
from collections.abc import Sequence

from torch import Tensor, nn


class FeatureNetwork(nn.Module):
    """Base class of networks from images, N x C x H x W, to features, N x out_dim."""

    out_dim: int
    """Width of the features."""


class MaxPoolFeatures(FeatureNetwork):
    """Convolutions with ReLU and 2 x 2 max pooling, then a fully connected layer with ReLU.

    Args:
        image_shape: Channels, height, width.
        channels: Output channels of the two convolutions.
        hidden_dim: Width of the features.
        kernel_size: Kernel size of the convolutions, an odd number.

    Raises:
        ValueError: the image is too small to be halved twice.
    """

    def __init__(self, image_shape: Sequence[int], channels: Sequence[int], hidden_dim: int, kernel_size: int) -> None:
        super().__init__()
        c_in, height, width = image_shape
        if min(height, width) < 4:
            raise ValueError(f"images of {height} x {width} are too small to be halved twice")
        self.out_dim = hidden_dim
        self.layers = nn.Sequential()
        for c_out in channels:
            self.layers.append(nn.Conv2d(c_in, c_out, kernel_size, padding=kernel_size // 2))
            self.layers.append(nn.ReLU())
            self.layers.append(nn.MaxPool2d(2))
            c_in = c_out
        self.layers.append(nn.Flatten())
        self.layers.append(nn.Linear(c_in * (height // 4) * (width // 4), hidden_dim))
        self.layers.append(nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W -> N x out_dim."""
        return self.layers(2 * images - 1)


class MLPFeatures(FeatureNetwork):
    """Fully connected layers with LeakyReLU.

    Args:
        image_shape: Channels, height, width.
        hidden_dims: Widths of the layers; the last one is that of the features.
    """

    def __init__(self, image_shape: Sequence[int], hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.out_dim = hidden_dims[-1]
        self.layers = nn.Sequential()
        for width_in, width_out in zip([math.prod(image_shape), *hidden_dims], hidden_dims, strict=False):
            self.layers.append(nn.Linear(width_in, width_out))
            self.layers.append(nn.LeakyReLU(0.2))

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W -> N x out_dim."""
        return self.layers(2 * images.flatten(1) - 1)
