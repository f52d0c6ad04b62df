"""Gated PixelCNN: logits of each value of an image given the values before it in raster order."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConditionalPixelCNN(nn.Module):
    """Gated PixelCNN (van den Oord et al. 2016, arXiv 1606.05328), conditioned on the class if there are classes.

    A vertical stack of feature maps sees the rows above a pixel, and a horizontal stack sees the pixels to its left and
    the vertical stack. No weight is masked for that: both stacks start from the image shifted by one pixel, down or to
    the right, and their convolutions only reach up and sideways, or to the left.

    Args:
        image_shape: Channels C, height, width.
        num_values: Number K of different values.
        ordered: Whether a value is a number on a scale, such as a grey level, rather than a token.
        channels: Channels of a feature map of either stack.
        layers: Number of gated layers.
        kernel_size: Width of the convolutions of the gated layers; odd.
        first_kernel_size: Width of the convolutions of the image; odd.
        dropout: Probability of dropping an activation of a gated layer.
        num_classes: Number of classes; None: there are no labels.
    """

    layers: Any

    def __init__(
        self,
        image_shape: Sequence[int],
        num_values: int,
        ordered: bool,
        channels: int,
        layers: int,
        kernel_size: int,
        first_kernel_size: int,
        dropout: float,
        num_classes: int | None,
    ) -> None:
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.num_values = num_values
        self.embedding = None if ordered else nn.Embedding(num_values, channels)
        width = image_shape[0] * (1 if ordered else channels)
        self.reach = first_kernel_size // 2
        self.vertical = vertical_conv(width, channels, first_kernel_size)
        self.horizontal = horizontal_conv(width, channels, first_kernel_size)
        self.layers = nn.ModuleList(
            GatedLayer(channels, kernel_size, dropout, num_classes, number == layers - 1) for number in range(layers)
        )
        self.head = ChannelHead(image_shape[0], width, channels, num_values)

    def embed(self, values: Tensor) -> Tensor:
        """int64, N x C x H x W -> N x width x H x W, in which the channels of a pixel follow one another."""
        if self.embedding is None:
            return values.to(self.vertical.weight.dtype) * (2 / (self.num_values - 1)) - 1
        return self.embedding(values).permute(0, 1, 4, 2, 3).flatten(1, 2)

    def forward(self, values: Tensor, labels: Tensor | None = None) -> Tensor:
        """values: int64, N x C x H x W; labels: int64, N -> logits, N x C x H x W x K."""
        x = self.embed(values)
        v = self.vertical(F.pad(x[:, :, :-1], (0, 0, self.reach + 1, 0)))
        h = self.horizontal(F.pad(x[:, :, :, :-1], (self.reach + 1, 0)))
        skip = torch.zeros_like(h)
        for layer in self.layers:
            bias = layer.class_bias(labels)
            v, link = layer.next_vertical(F.pad(v, (0, 0, layer.reach, 0)), bias)
            h, skip = layer.next_horizontal(h, F.pad(h, (layer.reach, 0)), link, skip, bias)
        return self.head(skip, x)

    @torch.no_grad()
    def generate(self, n: int, labels: Tensor | None, draw: Callable[[Tensor], Tensor]) -> Tensor:
        """Draws n arrays of values in raster order: int64, n x C x H x W.

        It computes each feature once: the vertical stack by rows, the horizontal stack by pixels, from the features
        that their convolutions reach back to.

        Args:
            n: Number of arrays.
            labels: Classes, int64, n, if there are classes.
            draw: Logits of one value, n x K -> values, int64, n.
        """
        channels, height, width = self.image_shape
        weight = self.vertical.weight
        values = torch.zeros(n, channels, height, width, dtype=torch.int64, device=weight.device)
        biases = [layer.class_bias(labels) for layer in self.layers]
        above = [Recent(self.reach, 2), *(Recent(layer.reach, 2) for layer in self.layers)]
        x = weight.new_zeros(n, weight.shape[1], 1, width)
        for row in range(height):
            v, links = self.vertical(above[0].push(x)), []
            for layer, recent, bias in zip(self.layers, above[1:], biases, strict=True):
                v, link = layer.next_vertical(recent.push(v), bias)
                links.append(link)
            self._draw_row(values[:, :, row : row + 1], links, biases, draw)
            x = self.embed(values[:, :, row : row + 1])
        return values

    def _draw_row(
        self, values: Tensor, links: list[Tensor], biases: list[Tensor | None], draw: Callable[[Tensor], Tensor]
    ) -> None:
        """Draws the values of one row, N x C x 1 x W, in place, given the links of each layer, N x 2c x 1 x W."""
        left = [Recent(self.reach, 3), *(Recent(layer.reach, 3) for layer in self.layers)]
        x = torch.zeros_like(self.embed(values[..., :1]))
        for column in range(values.shape[3]):
            pixel = slice(column, column + 1)
            h = convolve(self.horizontal, left[0].push(x))
            skip = torch.zeros_like(h)
            for layer, recent, link, bias in zip(self.layers, left[1:], links, biases, strict=True):
                h, skip = layer.next_horizontal(h, recent.push(h), link[..., pixel], skip, bias)
            for channel in range(values.shape[1]):
                logits = self.head(skip, self.embed(values[..., pixel]))
                values[:, channel, 0, column] = draw(logits[:, channel, 0, 0])
            x = self.embed(values[..., pixel])


class GatedLayer(nn.Module):
    """One layer of both stacks: y = tanh(f) * sigmoid(g), where f and g are convolutions with a bias of the class.

    Args:
        channels: Channels of a feature map of either stack.
        kernel_size: Width of the convolutions; odd.
        dropout: Probability of dropping an activation of the horizontal stack.
        num_classes: Number of classes; None: there are no labels.
        last: Whether no layer follows, so that the layer only adds to the sum for the head.
    """

    def __init__(self, channels: int, kernel_size: int, dropout: float, num_classes: int | None, last: bool) -> None:
        super().__init__()
        self.reach = kernel_size // 2
        self.vertical = vertical_conv(channels, 2 * channels, kernel_size)
        self.horizontal = horizontal_conv(channels, 2 * channels, kernel_size)
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.dropout = nn.Dropout(dropout)
        self.residual = None if last else nn.Conv2d(channels, channels, 1)
        self.skip = nn.Conv2d(channels, channels, 1)
        self.class_embedding = None if num_classes is None else nn.Embedding(num_classes, 4 * channels)

    def class_bias(self, labels: Tensor | None) -> Tensor | None:
        """Biases of the gates of both stacks for labels, int64, N: N x 4c x 1 x 1."""
        return None if self.class_embedding is None else self.class_embedding(labels)[:, :, None, None]

    def next_vertical(self, above: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """N x c x (reach + H) x W -> features, N x c x H x W, and what the horizontal stack gets, N x 2c x H x W."""
        both = self.vertical(above)
        return gate(both, None if bias is None else bias.chunk(2, dim=1)[0]), self.link(both)

    def next_horizontal(
        self, h: Tensor, left: Tensor, link: Tensor, skip: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Features h, N x c x H x W, and the sum of all layers for the head, N x c x H x W, of the next layer.

        Args:
            h: Features, N x c x H x W.
            left: The features and those to the left of them, N x c x H x (reach + W).
            link: What comes from the vertical stack, N x 2c x H x W.
            skip: The sum of the layers before.
            bias: Biases of the class, N x 4c x 1 x 1.
        """
        both = convolve(self.horizontal, left) + link
        gated = self.dropout(gate(both, None if bias is None else bias.chunk(2, dim=1)[1]))
        skip = skip + convolve(self.skip, gated)
        return h if self.residual is None else h + convolve(self.residual, gated), skip


class ChannelHead(nn.Module):
    """Logits of each channel of a pixel, given the features of the pixels before it and the channels before it.

    Args:
        image_channels: Channels C of a pixel.
        width: Channels of an embedded pixel, C groups of equal size.
        channels: Channels of the features.
        num_values: Number K of values.
    """

    earlier_channels: Tensor

    def __init__(self, image_channels: int, width: int, channels: int, num_values: int) -> None:
        super().__init__()
        self.image_channels = image_channels
        self.hidden = nn.Conv2d(channels, image_channels * channels, 1)
        self.between = None if image_channels == 1 else nn.Conv2d(width, image_channels * channels, 1, bias=False)
        mask = torch.ones(image_channels, image_channels).tril(-1)
        mask = mask.repeat_interleave(channels, 0).repeat_interleave(width // image_channels, 1)
        self.register_buffer("earlier_channels", mask[:, :, None, None], persistent=False)
        self.logits = nn.Conv2d(image_channels * channels, image_channels * num_values, 1, groups=image_channels)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        """skip: features, N x c x H x W; x: embedded pixels, N x width x H x W -> logits, N x C x H x W x K."""
        hidden = convolve(self.hidden, F.relu(skip))
        if self.between is not None:
            hidden = hidden + F.conv2d(x, self.between.weight * self.earlier_channels)
        return self.logits(F.relu(hidden)).unflatten(1, (self.image_channels, -1)).movedim(2, 4)


class Recent:
    """The last slices of a map along one of its axes; zeros at first.

    Args:
        size: Number of slices.
        dim: The axis.
    """

    def __init__(self, size: int, dim: int) -> None:
        self.size = size
        self.dim = dim
        self.kept: Tensor | None = None

    def push(self, new: Tensor) -> Tensor:
        """Adds a slice, and returns it after the `size` slices before it."""
        kept = torch.cat([torch.zeros_like(new)] * self.size, self.dim) if self.kept is None else self.kept
        window = torch.cat([kept, new], self.dim)
        self.kept = window.narrow(self.dim, 1, self.size)
        return window


def vertical_conv(c_in: int, c_out: int, kernel_size: int) -> nn.Conv2d:
    """Convolution that sees a place, half a kernel above it and, in all these rows, half a kernel to both sides."""
    reach = kernel_size // 2
    return nn.Conv2d(c_in, c_out, (reach + 1, kernel_size), padding=(0, reach))


def horizontal_conv(c_in: int, c_out: int, kernel_size: int) -> nn.Conv2d:
    """Convolution that sees a place and half a kernel to its left."""
    return nn.Conv2d(c_in, c_out, (1, kernel_size // 2 + 1))


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x); as a matrix product, which is faster, where the kernel covers the whole of x."""
    if x.shape[2:] != conv.kernel_size:
        return conv(x)
    return F.linear(x.flatten(1), conv.weight.flatten(1), conv.bias)[:, :, None, None]


def gate(features: Tensor, bias: Tensor | None) -> Tensor:
    """tanh(f) * sigmoid(g) of the two halves f and g of N x 2c x H x W, with a bias of N x 2c x 1 x 1 added."""
    halves = (features if bias is None else features + bias).chunk(2, dim=1)
    f, g = (half.contiguous(memory_format=torch.channels_last) for half in halves)  # halves the time on a CPU
    return f.tanh() * g.sigmoid()
