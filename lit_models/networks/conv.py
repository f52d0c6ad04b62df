"""Strided convolutional encoder and a mirrored decoder, for any image shape."""

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

MIN_SIDE = 3
"""Least side of the smallest maps of a network whose depth follows from the image's size."""


def depth_of(size: Sequence[int]) -> int:
    """How often images are halved unless a depth is given: until a side would have fewer than 3 pixels; at least once.

    It is 3 for 28 and 32, 4 for 48, 64 and 100 x 60, 5 for 128 and 6 for 256.

    Args:
        size: Height and width of the images.
    """
    return max(1, (min(size) // MIN_SIDE).bit_length() - 1)


def doubling_channels(levels: int, channels: int, max_channels: int) -> list[int]:
    """Channels at each of `levels` resolutions, from the largest down: c, 2 c, 4 c, ..., at most `max_channels`."""
    return [min(channels * 2**level, max_channels) for level in range(levels)]


def check_doubling(channels: int, max_channels: int, depth: int | None) -> None:
    """
    Raises:
        ValueError: a number is below one, or `channels` above `max_channels`.
    """
    if channels < 1 or (depth is not None and depth < 1):
        raise ValueError(f"channels is {channels} and depth {depth}; the numbers must be at least 1")
    if channels > max_channels:
        raise ValueError(
            f"channels is {channels} and max_channels {max_channels}; max_channels must be at least {channels}"
        )


def strided_sizes(size: tuple[int, int], depth: int, kernel_size: int) -> list[tuple[int, int]]:
    """Heights and widths before and after each of `depth` convolutions of stride 2: depth + 1 pairs.

    Args:
        size: Height and width of the image.
        depth: Number of convolutions.
        kernel_size: Kernel size of every convolution, at least 2.

    Raises:
        ValueError: the image is too small for `depth` convolutions, or `kernel_size` is below 2.
    """
    if kernel_size < 2:
        raise ValueError(f"kernel_size is {kernel_size}; a convolution of stride 2 needs at least 2")
    padding = (kernel_size - 1) // 2
    sizes = [size]
    for layer in range(depth):
        smaller = tuple((side + 2 * padding - kernel_size) // 2 + 1 for side in sizes[-1])
        if min(sizes[-1]) < 2 or min(smaller) < 1:
            raise ValueError(f"depth {depth} is too deep for images of {size[0]} x {size[1]}: at most {layer} fit")
        sizes.append(smaller)  # type: ignore[arg-type]
    return sizes


def map_channels(dim: int, size: tuple[int, int]) -> int:
    """Number c of channels of a map of c x h x w that is a code of `dim` numbers.

    Args:
        dim: Width of the code.
        size: Height h and width w of the map.

    Raises:
        ValueError: `dim` is no multiple of h w.
    """
    height, width = size
    if dim < 1 or dim % (height * width):
        raise ValueError(
            f"a code of {dim} numbers is no map of {height} x {width}: latent_dim must be a multiple of"
            f" {height * width}, such as {4 * height * width} for 4 channels"
        )
    return dim // (height * width)


class StridedEncoder(nn.Module):
    """Convolutions of stride 2 with ReLU, then two fully connected layers with a ReLU between them, or a map.

    Args:
        image_shape: Channels, height, width.
        channels: Output channels of each convolution.
        kernel_size: Kernel size of every convolution.
        hidden_dim: Width of the first fully connected layer. None: a 1 x 1 convolution to a map, which is flattened,
            takes the place of both.
        out_dim: Width of the output.

    Raises:
        ValueError: the image is too small, or the output no map of the smallest size.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: Sequence[int],
        kernel_size: int,
        hidden_dim: int | None,
        out_dim: int,
    ) -> None:
        super().__init__()
        height, width = strided_sizes((image_shape[1], image_shape[2]), len(channels), kernel_size)[-1]
        padding = (kernel_size - 1) // 2
        ends = [image_shape[0], *channels]
        self.convolutions = nn.Sequential()
        for c_in, c_out in itertools.pairwise(ends):
            self.convolutions.append(nn.Conv2d(c_in, c_out, kernel_size, stride=2, padding=padding))
            self.convolutions.append(nn.ReLU())
        if hidden_dim is None:
            to_map = nn.Conv2d(ends[-1], map_channels(out_dim, (height, width)), 1)
            self.head = nn.Sequential(nn.Unflatten(1, (ends[-1], height, width)), to_map, nn.Flatten())
        else:
            self.head = nn.Sequential(
                nn.Linear(ends[-1] * height * width, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, out_dim)
            )

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x out_dim."""
        features = self.convolutions(images)  # (N, channels[-1], h, w)
        return self.head(features.flatten(1))  # (N, out_dim)


class StridedDecoder(nn.Module):
    """Mirror image of StridedEncoder, with transposed convolutions; returns logits of the pixels.

    Args:
        image_shape: Channels, height, width.
        channels: Output channels of each convolution of the encoder.
        kernel_size: Kernel size of every convolution.
        hidden_dim: Width of the hidden fully connected layer. None: codes are maps, and a 1 x 1 convolution takes the
            place of the fully connected layers.
        latent_dim: Width of the code.

    Raises:
        ValueError: the image is too small, or the code no map of the smallest size.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: Sequence[int],
        kernel_size: int,
        hidden_dim: int | None,
        latent_dim: int,
    ) -> None:
        super().__init__()
        sizes = strided_sizes((image_shape[1], image_shape[2]), len(channels), kernel_size)[::-1]
        padding = (kernel_size - 1) // 2
        ends = [image_shape[0], *channels][::-1]
        self.smallest = (ends[0], *sizes[0])
        if hidden_dim is None:
            c = map_channels(latent_dim, sizes[0])
            self.head = nn.Sequential(nn.Unflatten(1, (c, *sizes[0])), nn.Conv2d(c, ends[0], 1), nn.Flatten())
        else:
            self.head = nn.Sequential(
                nn.Linear(latent_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, math.prod(self.smallest))
            )
        self.convolutions = nn.Sequential()
        for c_in, c_out, small, large in zip(ends, ends[1:], sizes, sizes[1:], strict=False):
            missing = [to - (2 * (at - 1) + kernel_size - 2 * padding) for at, to in zip(small, large, strict=True)]
            self.convolutions.append(nn.ReLU())
            self.convolutions.append(
                nn.ConvTranspose2d(
                    c_in, c_out, kernel_size, stride=2, padding=padding, output_padding=(missing[0], missing[1])
                )
            )

    def forward(self, codes: Tensor) -> Tensor:
        """N x latent_dim -> logits, N x C x H x W."""
        features = self.head(codes).unflatten(1, self.smallest)  # (N, channels[-1], h, w)
        return self.convolutions(features)  # (N, C, H, W)


def growing_channels(depth: int | None, channel_factor: int, size: Sequence[int]) -> list[int]:
    """Channels of each of `depth` layers: c, c^2, c^3, ... with c = channel_factor.

    Args:
        depth: Number of layers. None: it follows from the size, and no layer has more than c^3 channels.
        channel_factor: The factor c.
        size: Height and width of the images.

    Raises:
        ValueError: `depth` or `channel_factor` is below 1.
    """
    if (depth is not None and depth < 1) or channel_factor < 1:
        raise ValueError(f"depth is {depth} and channel_factor {channel_factor}; both must be at least 1")
    if depth is None:
        return [channel_factor ** min(layer + 1, 3) for layer in range(depth_of(size))]
    return [channel_factor ** (layer + 1) for layer in range(depth)]
