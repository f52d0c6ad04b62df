"""Pairs of an encoder and a decoder whose codes are maps."""

from collections.abc import Sequence

from torch import nn

from lit_models.common.encoder_decoders import Networks
from lit_models.networks.code_maps import MapDecoder, MapEncoder
from lit_models.networks.conv import check_doubling, doubling_channels, map_channels, strided_sizes
from lit_models.networks.init import channels_last
from lit_models.networks.residual import KERNEL_SIZE


class MapNetworks(Networks):
    """Encoder of residual blocks from images to maps, and its mirror image, for images of any size.

    A code is a map of c x h x w, flattened in this order to d = c h w numbers; each of its positions stands for a
    square of 2^depth x 2^depth pixels. So are the codes of the VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937) and
    those of latent diffusion (Rombach et al. 2021, arXiv 2112.10752). The layers are those of ResidualNetworks, with a
    3 x 3 convolution in place of its fully connected layers.

    Args:
        depth: Number of times that the size is halved, rounded up: 2 turns 28 into 7, 64 into 16 and 25 into 7.
        channels: Channels at half the image's size; twice as many at each smaller size.
        max_channels: Largest number of channels.
        blocks: Number of residual blocks at each resolution.

    Raises:
        ValueError: a number is below 1; from `build_encoder` and `build_decoder`, the image is too small to be halved
            `depth` times, or the width of the code is no multiple of h w.

    Examples:
        >>> import torch
        >>> networks = MapNetworks(depth=2, channels=4)
        >>> networks.code_shape((1, 28, 28), 196)
        (4, 7, 7)
        >>> networks.build_encoder((1, 28, 28), 196)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 196])
    """

    def __init__(self, depth: int = 2, channels: int = 32, max_channels: int = 256, blocks: int = 1) -> None:
        check_doubling(channels, max_channels, depth)
        if blocks < 1:
            raise ValueError(f"blocks is {blocks}; it must be at least 1")
        self.depth = depth
        self.channels = channels
        self.max_channels = max_channels
        self.blocks = blocks

    def map_size(self, image_shape: Sequence[int]) -> tuple[int, int]:
        """Height h and width w of the maps of images of this shape."""
        return strided_sizes((image_shape[1], image_shape[2]), self.depth, KERNEL_SIZE)[-1]

    def code_shape(self, image_shape: Sequence[int], dim: int) -> tuple[int, int, int]:
        """Channels, height and width of a code of `dim` numbers.

        Raises:
            ValueError: `dim` is no multiple of h w.
        """
        size = self.map_size(image_shape)
        return (map_channels(dim, size), *size)

    def build_encoder(self, image_shape: Sequence[int], out_dim: int) -> nn.Module:
        return channels_last(MapEncoder(image_shape, self._channels(), self.blocks, out_dim))

    def build_decoder(self, image_shape: Sequence[int], in_dim: int) -> nn.Module:
        return channels_last(MapDecoder(image_shape, self._channels(), self.blocks, in_dim))

    def _channels(self) -> list[int]:
        return doubling_channels(self.depth, self.channels, self.max_channels)
