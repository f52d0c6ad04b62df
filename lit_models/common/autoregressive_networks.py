"""Networks of autoregressive models, to be injected."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from lit_models.common.component import Component
from lit_models.networks.init import channels_last
from lit_models.networks.pixelcnn import ConditionalPixelCNN
from lit_models.networks.transformer import ConditionalTransformer


class AutoregressiveNetwork(Component, ABC):
    """Builds a network that predicts each value of an image from the values before it.

    The order is raster order: rows from the top, pixels from the left, and the channels of a pixel one after another.
    """

    @abstractmethod
    def build(
        self, image_shape: Sequence[int], num_values: int, ordered: bool, num_classes: int | None = None
    ) -> nn.Module:
        """Builds the network: (values, int64, N x C x H x W, and labels, int64, N) -> logits, N x C x H x W x K.

        Its method `generate(n, labels, draw)` draws n arrays of values. Without classes there are no labels.

        Args:
            image_shape: Channels C, height, width.
            num_values: Number K of different values.
            ordered: Whether a value is a number on a scale, such as a grey level, rather than a token.
            num_classes: Number of classes.
        """


class GatedPixelCNN(AutoregressiveNetwork):
    """Gated PixelCNN: convolutions that see only the pixels before, van den Oord et al. 2016, arXiv 1606.05328.

    Gates tanh(f) * sigmoid(g), to which the class adds a bias; a vertical and a horizontal stack, without a blind spot;
    residual connections in the horizontal stack, and skip connections to the last layers.

    Departure from the paper: the channels of a pixel meet only in the two last layers, in which the weights between
    groups of features of R, G and B are masked. All layers before run once for a pixel, not once for each channel.

    Args:
        width: Channels of a feature map of either stack.
        layers: Number of gated layers.
        kernel_size: Width of the convolutions of the gated layers; odd. A pixel sees as many pixels to each side as
            half the widths of all layers are together.
        first_kernel_size: Width of the convolutions of the image; odd.
        dropout: Dropout probability in the gated layers.

    Raises:
        ValueError: a number is out of range.

    Examples:
        >>> import torch
        >>> network = GatedPixelCNN(width=8, layers=2).build((3, 8, 8), num_values=256, ordered=True)
        >>> network(torch.randint(256, (2, 3, 8, 8))).shape
        torch.Size([2, 3, 8, 8, 256])
    """

    def __init__(
        self,
        width: int = 64,
        layers: int = 8,
        kernel_size: int = 3,
        first_kernel_size: int = 7,
        dropout: float = 0.0,
    ) -> None:
        if min(width, layers) < 1 or not 0 <= dropout < 1:
            raise ValueError(
                f"width is {width}, layers {layers} and dropout {dropout}; they must be at least 1, and dropout"
                " in [0, 1)"
            )
        if min(kernel_size, first_kernel_size) < 3 or not kernel_size % 2 or not first_kernel_size % 2:
            raise ValueError(
                f"kernel_size is {kernel_size} and first_kernel_size {first_kernel_size}; give odd numbers of at least"
                " 3"
            )
        self.width = width
        self.layers = layers
        self.kernel_size = kernel_size
        self.first_kernel_size = first_kernel_size
        self.dropout = dropout

    def build(
        self, image_shape: Sequence[int], num_values: int, ordered: bool, num_classes: int | None = None
    ) -> nn.Module:
        return channels_last(
            ConditionalPixelCNN(
                image_shape,
                num_values,
                ordered,
                self.width,
                self.layers,
                self.kernel_size,
                self.first_kernel_size,
                self.dropout,
                num_classes,
            )
        )


class CausalTransformer(AutoregressiveNetwork):
    """Decoder-only transformer with learned positions: Vaswani et al. 2017, arXiv 1706.03762.

    A layer normalises its input (Xiong et al. 2020, arXiv 2002.04745). Attention compares each value with all values
    before it, so time and memory grow faster than the number of values: use it for tokens, or for small images.

    Args:
        width: Width of the features.
        layers: Number of layers.
        heads: Number of heads of attention; a divisor of `width`.
        dropout: Dropout probability.

    Raises:
        ValueError: a number is out of range, or `heads` does not divide `width`.

    Examples:
        >>> import torch
        >>> network = CausalTransformer(width=16, layers=2).build((1, 7, 7), num_values=32, ordered=False)
        >>> network(torch.randint(32, (2, 1, 7, 7))).shape
        torch.Size([2, 1, 7, 7, 32])
    """

    def __init__(self, width: int = 128, layers: int = 4, heads: int = 4, dropout: float = 0.0) -> None:
        if min(width, layers, heads) < 1 or width % heads or not 0 <= dropout < 1:
            raise ValueError(
                f"width is {width}, layers {layers}, heads {heads} and dropout {dropout}; give numbers of at least 1,"
                " with width a multiple of heads, and dropout in [0, 1)"
            )
        self.width = width
        self.layers = layers
        self.heads = heads
        self.dropout = dropout

    def build(
        self, image_shape: Sequence[int], num_values: int, ordered: bool, num_classes: int | None = None
    ) -> nn.Module:
        return ConditionalTransformer(
            image_shape, num_values, self.width, self.layers, self.heads, self.dropout, num_classes
        )
