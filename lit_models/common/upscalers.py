"""Upscalers: components that build networks from small images to large ones, for images of any size."""

from abc import ABC, abstractmethod

from torch import nn

from lit_models.common.component import Component
from lit_models.networks.init import channels_last
from lit_models.networks.srresnet import SRResNetGenerator


class Upscaler(Component, ABC):
    """Component that builds a network from small images to large ones."""

    @abstractmethod
    def build(self, in_channels: int, out_channels: int, factor: int) -> nn.Module:
        """A network from N x in_channels x h x w to images, N x out_channels x (factor h) x (factor w).

        The first out_channels of the input are the small image in [0, 1]; any others are noise.
        """


class SRResNet(Upscaler):
    """Residual blocks at the small size, then sub-pixel convolutions; the output is added to the bicubic upsampling.

    Ledig et al. 2016, arXiv 1609.04802, section 2.1.1, with the sub-pixel convolutions of Shi et al. 2016, arXiv
    1609.05158. The network starts near the bicubic upsampling, as its last layer has small initial weights.

    Args:
        channels: Channels of all maps, 64 in the paper.
        blocks: Number of residual blocks, 16 in the paper.

    Raises:
        ValueError: a number is too small; from `build`, the factor is no power of two.
    """

    def __init__(self, channels: int = 32, blocks: int = 4) -> None:
        if channels < 1 or blocks < 0:
            raise ValueError(f"channels is {channels} and blocks {blocks}; they must be at least 1 and 0")
        self.channels = channels
        self.blocks = blocks

    def build(self, in_channels: int, out_channels: int, factor: int) -> nn.Module:
        if factor < 2 or factor & (factor - 1):
            raise ValueError(f"SRResNet enlarges by powers of two, not by {factor}; give --data.factor 2 or 4")
        return channels_last(SRResNetGenerator(in_channels, out_channels, factor, self.channels, self.blocks))
