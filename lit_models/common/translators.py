"""Translators: components that build networks for image-to-image translation, which keep the size of an image."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from lit_models.common.component import Component
from lit_models.networks.conv import depth_of
from lit_models.networks.image_translation import (
    ResNetGenerator,
    UNetGenerator,
    check_resnet_size,
    check_unet_size,
    identity_conv_net,
)
from lit_models.networks.init import channels_last
from lit_models.networks.norms import Norm


class Translator(Component, ABC):
    """Component that builds a network for image-to-image translation; its outputs have the size of its inputs."""

    @abstractmethod
    def build(self, source_shape: Sequence[int], out_channels: int) -> nn.Module:
        """A network from images in [0, 1], N x C x H x W, to images, N x out_channels x H x W.

        A network with a linear last layer may exceed [0, 1]; the model clips its output in `translate`.

        Args:
            source_shape: Channels, height, width of the source images. The network also takes images of other sizes.
            out_channels: Channels of the target images.

        Raises:
            ValueError: images of this shape are too small for the network.
        """


class ConvTranslator(Translator):
    """Convolutions at full size with ReLU between them, initialised near the identity.

    The random initial weights are added to weights that pass each channel on unchanged, so that the output resembles
    the input from the start. Otherwise a network for dark images first learns to output black, and stays there. The
    last layer is linear, as a sigmoid would have almost no gradient at saturated colours.

    Args:
        channels: Channels of the hidden maps; there is one convolution more.
        kernel_size: Side of the kernels, an odd number.

    Raises:
        ValueError: there is no hidden map, a number is below one or the kernel even.
    """

    def __init__(self, channels: tuple[int, ...] = (64, 32), kernel_size: int = 5) -> None:
        if not channels or min(channels) < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"channels are {list(channels)} and kernel_size {kernel_size}; there must be channels of at least 1,"
                " and kernel_size must be odd"
            )
        self.channels = channels
        self.kernel_size = kernel_size

    def build(self, source_shape: Sequence[int], out_channels: int) -> nn.Module:
        return channels_last(identity_conv_net(source_shape[0], out_channels, self.channels, self.kernel_size))


class ResNetTranslator(Translator):
    """Two convolutions of stride 2, residual blocks, and two upsampling convolutions.

    Zhu et al. 2017, arXiv 1703.10593, section 7.2. Maps are upsampled by nearest neighbours before a convolution, as
    the paper's transposed convolutions leave checkerboard artefacts (Odena et al. 2016, doi 10.23915/distill.00003) and
    do not fit every image size.

    Args:
        channels: Channels of the first maps, 64 in the paper.
        blocks: Number of residual blocks at a quarter of the size, 6 or 9 in the paper.
        norm: Layer after each convolution but the last.

    Raises:
        ValueError: a number is too small; from the network, an image has fewer than 5 pixels a side.
    """

    def __init__(self, channels: int = 32, blocks: int = 3, norm: Norm = "instance") -> None:
        if channels < 1 or blocks < 0:
            raise ValueError(f"channels is {channels} and blocks {blocks}; they must be at least 1 and 0")
        self.channels = channels
        self.blocks = blocks
        self.norm: Norm = norm

    def build(self, source_shape: Sequence[int], out_channels: int) -> nn.Module:
        check_resnet_size(source_shape[1:])
        return channels_last(ResNetGenerator(source_shape[0], out_channels, self.channels, self.blocks, self.norm))


class UNetTranslator(Translator):
    """Convolutions of stride 2, then upsampling convolutions that also take the maps of the way down.

    Ronneberger et al. 2015, arXiv 1505.04597, in the form of Isola et al. 2016 (pix2pix), arXiv 1611.07004, section
    6.1, with nearest-neighbour upsampling in place of transposed convolutions. Dropout acts in training only, so that
    an image has one translation; the paper keeps it in testing and finds that the outputs hardly vary.

    Args:
        channels: Channels of the first maps; twice as many at each smaller size, at most eight times as many.
        depth: Number of convolutions of stride 2. By default it follows from the size of the images: 3 for 28 and 32, 4
            for 64, 5 for 128.
        dropout: Probability that training drops an activation on the way up, 0.5 in the paper. It acts on maps at a
            quarter of the size or less, which need a depth of at least 3, by default images of at least 24 pixels.
        norm: Layer after each convolution but the first, the innermost and the last.

    Raises:
        ValueError: a number is too small, or `dropout` not in [0, 1); from `build`, `dropout` is positive with a depth
            below 3; from `build` and the network, an image is too small to be halved `depth` times.
    """

    def __init__(
        self, channels: int = 32, depth: int | None = None, dropout: float = 0.0, norm: Norm = "batch"
    ) -> None:
        if channels < 1 or (depth is not None and depth < 1) or not 0 <= dropout < 1:
            raise ValueError(
                f"channels is {channels}, depth {depth} and dropout {dropout}; they must be at least 1, 1 and 0,"
                " dropout below 1"
            )
        self.channels = channels
        self.depth = depth
        self.dropout = dropout
        self.norm: Norm = norm

    def build(self, source_shape: Sequence[int], out_channels: int) -> nn.Module:
        channels, *size = source_shape
        depth = self.depth or depth_of(size)
        check_unet_size(size, depth)
        if self.dropout and depth < 3:
            raise ValueError(
                f"dropout is {self.dropout}, but depth is {depth}; give dropout 0, or a depth of at least 3"
            )
        return channels_last(UNetGenerator(channels, out_channels, self.channels, depth, self.dropout, self.norm))
