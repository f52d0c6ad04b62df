"""Residual convolutional encoder and decoder whose codes are maps, for any image shape."""

from collections.abc import Sequence

from torch import Tensor, nn

from lit_models.networks.conv import map_channels, strided_sizes
from lit_models.networks.residual import KERNEL_SIZE, down_layers, up_layers
from lit_models.networks.unet import group_norm


class MapEncoder(nn.Module):
    """Convolutions of stride 2, each with residual blocks after it, then a 3 x 3 convolution to the map.

    Args:
        image_shape: Channels, height, width.
        channels: Channels at each resolution, from half the image's size down.
        blocks: Number of residual blocks at each resolution.
        out_dim: Width d = c h w of the output.

    Raises:
        ValueError: the image is too small for so many convolutions, or d is no multiple of h w.
    """

    def __init__(self, image_shape: Sequence[int], channels: Sequence[int], blocks: int, out_dim: int) -> None:
        super().__init__()
        size = strided_sizes((image_shape[1], image_shape[2]), len(channels), KERNEL_SIZE)[-1]
        self.layers = down_layers(image_shape[0], channels, blocks)
        self.layers.extend([group_norm(channels[-1]), nn.SiLU()])
        self.head = nn.Conv2d(channels[-1], map_channels(out_dim, size), 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W -> maps of c x h x w, flattened in this order, N x out_dim."""
        return self.head(self.layers(2 * images - 1)).flatten(1)


class MapDecoder(nn.Module):
    """Mirror image of MapEncoder, with nearest-neighbour upsampling before convolutions; returns logits.

    Args:
        image_shape: Channels, height, width.
        channels: Channels at each resolution of the encoder, from half the image's size down.
        blocks: Number of residual blocks at each resolution.
        in_dim: Width d = c h w of the code.

    Raises:
        ValueError: the image is too small for so many convolutions, or d is no multiple of h w.
    """

    def __init__(self, image_shape: Sequence[int], channels: Sequence[int], blocks: int, in_dim: int) -> None:
        super().__init__()
        *larger, size = strided_sizes((image_shape[1], image_shape[2]), len(channels), KERNEL_SIZE)
        c = map_channels(in_dim, size)
        self.head = nn.Sequential(nn.Unflatten(1, (c, *size)), nn.Conv2d(c, channels[-1], 3, padding=1))
        self.layers = up_layers(image_shape[0], channels, blocks, larger)

    def forward(self, codes: Tensor) -> Tensor:
        """Maps of c x h x w, flattened in this order, N x in_dim -> logits, N x C x H x W."""
        return self.layers(self.head(codes))
