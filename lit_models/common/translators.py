"""Generators of images out of images, to be injected into a model; for images of any size."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.component import Component
from lit_models.networks.dcgan import NORMS, Norm
from lit_models.networks.init import channels_last, dcgan_init


class Translator(Component, ABC):
    def check(self, image_shape: Sequence[int]) -> None:
        """
        Raises:
            ValueError: images of that size are too small for the network.
        """

    @abstractmethod
    def network(self, in_channels: int, out_channels: int) -> nn.Module:
        """Images in [0, 1], N x in_channels x H x W, to such images, N x out_channels x H x W.

        A network without a bounded last layer may go beyond [0, 1]; the model cuts that off where it is looked at.
        """


class ConvTranslator(Translator):
    """Convolutions at full size that widen and narrow, ReLU between.

    Each channel is passed on beside what the random first weights make of the image, so that the figure is there from
    the start: of dark images a black one is otherwise the first thing to be learned, and from there nothing else.
    The last layer is linear: of a sigmoid, saturated colours would hardly move any more.

    Args:
        channels: of the hidden maps, one fewer than there are convolutions.
        kernel_size: of each, an odd number.

    Raises:
        ValueError: there is no hidden map, a number is below one or the kernel even.
    """

    def __init__(self, channels: tuple[int, ...] = (64, 32), kernel_size: int = 5) -> None:
        if not channels or min(channels) < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"channels are {list(channels)} and kernel_size {kernel_size}; there must be some of at least 1, and"
                " the kernel odd"
            )
        self.channels = channels
        self.kernel_size = kernel_size

    def network(self, in_channels: int, out_channels: int) -> nn.Module:
        layers = nn.Sequential()
        for c_in, c_out in itertools.pairwise([in_channels, *self.channels, out_channels]):
            convolution = nn.Conv2d(c_in, c_out, self.kernel_size, padding=self.kernel_size // 2)
            layers.extend([_passing(convolution), nn.ReLU()])
        return channels_last(layers[:-1])


class ResNetTranslator(Translator):
    """Two convolutions of stride 2, residual blocks, and back up (Zhu et al. 2017, arXiv 1703.10593, section 7.2).

    Maps are enlarged by their nearest neighbours before a convolution, not by transposed ones, which leave a chequered
    pattern (Odena et al. 2016, doi 10.23915/distill.00003) and fit few sizes.

    Args:
        channels: of the first maps, 64 in the paper.
        blocks: residual blocks at a quarter of the size, 6 or 9 in the paper.
        norm: after each convolution but the last.

    Raises:
        ValueError: a number is too small; from the network, an image of less than 5 pixels a side.
    """

    def __init__(self, channels: int = 32, blocks: int = 3, norm: Norm = "instance") -> None:
        if channels < 1 or blocks < 0:
            raise ValueError(f"channels is {channels} and blocks {blocks}; they must be at least 1 and 0")
        self.channels = channels
        self.blocks = blocks
        self.norm: Norm = norm

    def check(self, image_shape: Sequence[int]) -> None:
        _check_resnet(image_shape[1:])

    def network(self, in_channels: int, out_channels: int) -> nn.Module:
        return channels_last(_ResNet(in_channels, out_channels, self.channels, self.blocks, self.norm))


class UNetTranslator(Translator):
    """Convolutions of stride 2 and back up, each size joined with the one of the way down.

    Ronneberger et al. 2015, arXiv 1505.04597, in the form of Isola et al. 2016 (pix2pix), arXiv 1611.07004, section
    6.1; enlarged as in ResNetTranslator. Dropout, on the way up, acts in training alone, so that an image has one
    translation: the paper keeps it on and finds the outputs hardly vary.

    Args:
        channels: of the first maps; twice as many at each smaller size, eight times at most.
        depth: number of convolutions of stride 2.
        dropout: probability of dropping an activation on the way up, 0.5 in the paper; of maps at a quarter of the
            size and smaller, which a depth of 3 has.
        norm: after each convolution but the first, the innermost and the last.

    Raises:
        ValueError: a number is too small, or `dropout` not in [0, 1); from the network, an image is too small to be
            halved so often.
    """

    def __init__(self, channels: int = 32, depth: int = 3, dropout: float = 0.0, norm: Norm = "batch") -> None:
        if dropout and depth < 3:
            raise ValueError(f"dropout is {dropout}, and depth {depth} leaves nothing to drop: at least 3 does")
        if channels < 1 or depth < 1 or not 0 <= dropout < 1:
            raise ValueError(
                f"channels is {channels}, depth {depth} and dropout {dropout}; they must be at least 1, 1 and 0,"
                " dropout below 1"
            )
        self.channels = channels
        self.depth = depth
        self.dropout = dropout
        self.norm: Norm = norm

    def check(self, image_shape: Sequence[int]) -> None:
        _check_unet(image_shape[1:], self.depth)

    def network(self, in_channels: int, out_channels: int) -> nn.Module:
        return channels_last(_UNet(in_channels, out_channels, self.channels, self.depth, self.dropout, self.norm))


LEAST_SIDE = 5
"""Of an image that has two pixels left at a quarter of its size."""


class _ResNet(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, channels: int, blocks: int, norm: Norm) -> None:
        super().__init__()
        c = channels
        self.widen = nn.Sequential(_unit(in_channels, c, 7, 1, norm), _unit(c, 2 * c, 3, 2, norm))
        self.shrink = _unit(2 * c, 4 * c, 3, 2, norm)
        self.blocks = nn.Sequential(*(_Residual(4 * c, norm) for _ in range(blocks)))
        self.to_half = _unit(4 * c, 2 * c, 3, 1, norm)
        self.to_whole = _unit(2 * c, c, 3, 1, norm)
        self.paint = nn.Conv2d(c, out_channels, 7, padding=3, padding_mode="reflect")
        dcgan_init(self)

    def forward(self, images: Tensor) -> Tensor:
        _check_resnet(images.shape[2:])
        wide = self.widen(2 * images - 1)  # (N, 2c, H / 2, W / 2)
        maps = self.blocks(self.shrink(wide))  # (N, 4c, H / 4, W / 4)
        maps = self.to_whole(_enlarged(self.to_half(_enlarged(maps, wide)), images))  # (N, c, H, W)
        return (self.paint(maps).tanh() + 1) / 2


class _UNet(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, channels: int, depth: int, dropout: float, norm: Norm
    ) -> None:
        super().__init__()
        widths = [min(channels * 2**level, 8 * channels) for level in range(depth)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (c_in, c_out) in enumerate(itertools.pairwise([in_channels, *widths])):
            self.down.append(_unit(c_in, c_out, 4, 2, norm if 0 < level < depth - 1 else "none", leaky=True))
        for level in reversed(range(1, depth)):
            below = widths[level] * (1 if level == depth - 1 else 2)
            unit = _unit(below, widths[level - 1], 3, 1, norm)
            self.up.append(unit.append(nn.Dropout(dropout)) if dropout and level > 1 else unit)
        self.paint = nn.Conv2d(widths[0] * (1 if depth == 1 else 2), out_channels, 3, padding=1)
        dcgan_init(self)

    def forward(self, images: Tensor) -> Tensor:
        _check_unet(images.shape[2:], len(self.down))
        maps, skips = 2 * images - 1, [images]
        for layer in self.down:
            maps = layer(maps)
            skips.append(maps)
        skips.pop()
        for layer in self.up:
            skip = skips.pop()
            maps = torch.cat([layer(_enlarged(maps, skip)), skip], dim=1)
        return (self.paint(_enlarged(maps, images)).tanh() + 1) / 2


class _Residual(nn.Module):
    """x + f(x) of two convolutions (He et al. 2015, arXiv 1512.03385), no ReLU after the sum."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _unit(channels, channels, 3, 1, norm), *_unit(channels, channels, 3, 1, norm)[:-1]
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual(x)


def _unit(c_in: int, c_out: int, kernel_size: int, stride: int, norm: Norm, leaky: bool = False) -> nn.Sequential:
    """Convolution, norm, activation; at full size the image goes on beyond its edges mirrored."""
    mode: Literal["reflect", "zeros"] = "reflect" if stride == 1 else "zeros"
    padding = kernel_size // 2 if stride == 1 else (kernel_size - 1) // 2
    bias = norm in ("layer", "none")  # the others take it out again
    unit = nn.Sequential(nn.Conv2d(c_in, c_out, kernel_size, stride, padding, bias=bias, padding_mode=mode))
    if norm != "none":
        unit.append(NORMS[norm](c_out))
    return unit.append(nn.LeakyReLU(0.2) if leaky else nn.ReLU())


@torch.no_grad()
def _passing(convolution: nn.Conv2d) -> nn.Conv2d:
    """Adds one to the weight that passes each channel on as it is."""
    centre = convolution.kernel_size[0] // 2
    for channel in range(min(convolution.in_channels, convolution.out_channels)):
        convolution.weight[channel, channel, centre, centre] += 1
    return convolution


def _check_resnet(size: Sequence[int]) -> None:
    if min(size) < LEAST_SIDE:
        raise ValueError(
            f"images of {size[0]} x {size[1]} are too small for blocks at a quarter of that: use ConvTranslator"
        )


def _check_unet(size: Sequence[int], depth: int) -> None:
    if min(size) < 2**depth:
        raise ValueError(f"depth {depth} is too deep for images of {size[0]} x {size[1]}")


def _enlarged(maps: Tensor, like: Tensor) -> Tensor:
    """Maps at the height and width of others, by nearest neighbours."""
    return F.interpolate(maps, like.shape[2:], mode="nearest")
