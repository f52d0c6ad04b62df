"""Networks that predict the noise in noisy images, to be injected into diffusion and score models."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from lit_models.common.component import Component
from lit_models.networks.conditional_mlp import ConditionalMLP
from lit_models.networks.init import channels_last
from lit_models.networks.unet import ConditionalUNet


class NoisePredictor(Component, ABC):
    """Builds a network that predicts the noise e in x_t = a_t x_0 + s_t e."""

    @abstractmethod
    def build(self, image_shape: Sequence[int], num_classes: int | None = None) -> nn.Module:
        """Builds the network: (noisy images, noise levels, labels) -> noise in the images, N x C x H x W.

        Noisy images are N x C x H x W; levels are N, in (0, 1]. Labels are int64, N; the label `num_classes` stands for
        any class. Without classes there are no labels.

        Raises:
            ValueError: the network cannot take images of that size.
        """


class UNet(NoisePredictor):
    """U-Net: residual blocks at falling, then at rising resolutions, with skip connections between equal resolutions.

    Ho et al. 2020, arXiv 2006.11239, appendix B, after Ronneberger et al. 2015, arXiv 1505.04597: group norm, the noise
    level as a shift and scale in each block (Nichol and Dhariwal 2021, arXiv 2102.09672), attention at the lowest
    resolution.

    Args:
        channels: Channels at each resolution; each resolution is half the one before.
        blocks: Residual blocks at each resolution on the way down; there is one more on the way up.
        attention: Adds self-attention at the lowest resolution.
        patch_size: Side of the squares of pixels that the first layer folds into channels. 1: single pixels.
        dropout: Dropout probability in the residual blocks.

    Raises:
        ValueError: a number is out of range; from `build`, the image's sides cannot be halved so often.

    Examples:
        >>> import torch
        >>> network = UNet(channels=(8, 16)).build((1, 28, 28))
        >>> network(torch.rand(2, 1, 28, 28), torch.tensor([0.1, 1.0])).shape
        torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (32, 64, 64),
        blocks: int = 1,
        attention: bool = True,
        patch_size: int = 1,
        dropout: float = 0.0,
    ) -> None:
        if not channels or min(channels) < 1 or blocks < 1 or patch_size < 1 or not 0 <= dropout < 1:
            raise ValueError(
                f"channels is {list(channels)}, blocks {blocks}, patch_size {patch_size} and dropout {dropout};"
                " give at least one number of channels, all of them, blocks and patch_size at least 1, and dropout in"
                " [0, 1)"
            )
        self.channels = channels
        self.blocks = blocks
        self.attention = attention
        self.patch_size = patch_size
        self.dropout = dropout

    def build(self, image_shape: Sequence[int], num_classes: int | None = None) -> nn.Module:
        image_channels, height, width = image_shape
        divisor = self.patch_size * 2 ** (len(self.channels) - 1)
        if height % divisor or width % divisor:
            raise ValueError(
                f"images of {height} x {width} cannot be cut into patches of {self.patch_size} and halved"
                f" {len(self.channels) - 1} times; their sides must be multiples of {divisor}"
            )
        network = ConditionalUNet(
            image_channels, self.channels, self.blocks, self.attention, self.patch_size, self.dropout, num_classes
        )
        return channels_last(network)


class MLPNoisePredictor(NoisePredictor):
    """Fully connected network, for points of the plane and images of few pixels.

    Args:
        hidden_dims: Widths of the hidden layers.

    Raises:
        ValueError: there is no hidden layer, or a width is below 1.

    Examples:
        >>> import torch
        >>> network = MLPNoisePredictor(hidden_dims=(8,)).build((1, 1, 2))
        >>> network(torch.rand(3, 1, 1, 2), torch.ones(3)).shape
        torch.Size([3, 1, 1, 2])
    """

    def __init__(self, hidden_dims: tuple[int, ...] = (128, 128, 128)) -> None:
        if not hidden_dims or min(hidden_dims) < 1:
            raise ValueError(f"hidden_dims is {list(hidden_dims)}; it needs at least one width, each at least 1")
        self.hidden_dims = hidden_dims

    def build(self, image_shape: Sequence[int], num_classes: int | None = None) -> nn.Module:
        return ConditionalMLP(image_shape, self.hidden_dims, num_classes)
