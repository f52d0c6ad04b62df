"""Discriminators, to be injected into an adversarial model: a network of features, and the layer on top of it."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from lit_models.common.component import Component
from lit_models.networks.acgan import ACGANDown
from lit_models.networks.dcgan import KERNEL, NORMS, Norm, Shrinking, spectrally_normed
from lit_models.networks.features import FeatureNetwork
from lit_models.networks.init import channels_last, dcgan_init


class Discriminator(Component, ABC):
    @abstractmethod
    def network(self, image_shape: Sequence[int]) -> FeatureNetwork:
        """Images in [0, 1], N x C x H x W, to features."""

    def head(self, in_dim: int, out_dim: int) -> nn.Module:
        """The last layer, features to logits."""
        return self.normed(nn.Linear(in_dim, out_dim))

    def normed(self, layer: nn.Module) -> nn.Module:
        """A layer on top of the features, with first weights and a norm as the network's own."""
        return dcgan_init(layer)


class DCGANDiscriminator(Discriminator):
    """Convolutions of stride 2, LeakyReLU (Radford et al. 2015, arXiv 1511.06434).

    Args:
        channels: of the maps at half the image's size; twice as many at each smaller size.
        depth: number of convolutions, each of which halves the size.
        norm: after each convolution but the first.
        spectral_norm: hold each weight's spectral norm at one (Miyato et al. 2018, arXiv 1802.05957).
        minibatch_std: show it how much the images of a batch differ (Karras et al. 2017, arXiv 1710.10196).
        noise_std: of Gaussian noise before each convolution, in training.

    Raises:
        ValueError: a number is too small; from `network`, the image is too small to be halved so often.
    """

    def __init__(
        self,
        channels: int = 64,
        depth: int = 3,
        norm: Norm = "batch",
        spectral_norm: bool = False,
        minibatch_std: bool = False,
        noise_std: float = 0.0,
    ) -> None:
        if min(channels, depth) < 1 or not noise_std >= 0:
            raise ValueError(
                f"channels is {channels}, depth {depth} and noise_std {noise_std}; they must be at least 1, 1 and 0"
            )
        self.channels = channels
        self.depth = depth
        self.norm: Norm = norm
        self.spectral_norm = spectral_norm
        self.minibatch_std = minibatch_std
        self.noise_std = noise_std

    def network(self, image_shape: Sequence[int]) -> FeatureNetwork:
        return Shrinking(
            image_shape, self.channels, self.depth, self.norm, self.spectral_norm, self.minibatch_std, self.noise_std
        )

    def normed(self, layer: nn.Module) -> nn.Module:
        return spectrally_normed(super().normed(layer)) if self.spectral_norm else super().normed(layer)


class ACGANDiscriminator(Discriminator):
    """The one of Odena et al. 2016, arXiv 1610.09585, appendix A, for CIFAR-10.

    Args:
        noise_std: of Gaussian noise on the activations, in training.
        dropout: probability of dropping an activation.

    Raises:
        ValueError: `noise_std` is negative, or `dropout` not in [0, 1).
    """

    def __init__(self, noise_std: float = 0.0, dropout: float = 0.5) -> None:
        if not noise_std >= 0 or not 0 <= dropout < 1:
            raise ValueError(
                f"noise_std is {noise_std} and dropout {dropout}; they must be at least 0, dropout below 1"
            )
        self.noise_std = noise_std
        self.dropout = dropout

    def network(self, image_shape: Sequence[int]) -> FeatureNetwork:
        return ACGANDown(image_shape, self.noise_std, self.dropout)


class PoolingDiscriminator(Discriminator):
    """Two convolutions, each with ReLU and max pooling by two, then two fully connected layers.

    Args:
        channels: of the convolutions.
        hidden_dim: width of the first fully connected layer.
        kernel_size: of the convolutions, an odd number.

    Raises:
        ValueError: a number is below one or the kernel even; from `network`, the image is too small to be halved twice.
    """

    def __init__(self, channels: tuple[int, int] = (32, 64), hidden_dim: int = 128, kernel_size: int = 5) -> None:
        if min(*channels, hidden_dim, kernel_size) < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"channels are {list(channels)}, hidden_dim is {hidden_dim} and kernel_size {kernel_size}; they must be"
                " at least 1, and the kernel odd"
            )
        self.channels = channels
        self.hidden_dim = hidden_dim
        self.kernel_size = kernel_size

    def network(self, image_shape: Sequence[int]) -> FeatureNetwork:
        return channels_last(_Pooled(image_shape, self.channels, self.hidden_dim, self.kernel_size))

    def normed(self, layer: nn.Module) -> nn.Module:
        return layer


class _Pooled(FeatureNetwork):
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
        """Images in [0, 1], N x C x H x W, -> N x out_dim."""
        return self.layers(2 * images - 1)


class PatchDiscriminator(Discriminator):
    """A logit for each of many overlapping patches of an image, for images of any size.

    Isola et al. 2016 (pix2pix), arXiv 1611.07004, section 6.1.2: convolutions of stride 2, one of stride 1, and one
    that makes the logits. With a depth of 1, 2, 3 a logit sees patches of 16, 34, 70 pixels a side.

    Args:
        channels: of the first convolution; twice as many after each, eight times at most.
        depth: number of convolutions of stride 2.
        norm: after each convolution but the first.
        spectral_norm: hold each weight's spectral norm at one (Miyato et al. 2018, arXiv 1802.05957).

    Raises:
        ValueError: a number is below one; from `network`, the image is too small to be halved so often.
    """

    def __init__(
        self, channels: int = 32, depth: int = 2, norm: Norm = "instance", spectral_norm: bool = False
    ) -> None:
        if min(channels, depth) < 1:
            raise ValueError(f"channels is {channels} and depth {depth}; both must be at least 1")
        self.channels = channels
        self.depth = depth
        self.norm: Norm = norm
        self.spectral_norm = spectral_norm

    def network(self, image_shape: Sequence[int]) -> FeatureNetwork:
        return channels_last(_Patches(image_shape, self.channels, self.depth, self.norm, self.spectral_norm))

    def head(self, in_dim: int, out_dim: int) -> nn.Module:
        """The last convolution, maps to logits: N x out_dim x h x w."""
        return self.normed(nn.Conv2d(in_dim, out_dim, KERNEL, padding=1))

    def normed(self, layer: nn.Module) -> nn.Module:
        return spectrally_normed(super().normed(layer)) if self.spectral_norm else super().normed(layer)


class _Patches(FeatureNetwork):
    def __init__(self, image_shape: Sequence[int], channels: int, depth: int, norm: Norm, spectral_norm: bool) -> None:
        super().__init__()
        if min(image_shape[1:]) // 2**depth < 3:  # two convolutions of 4 without a stride leave two pixels less
            raise ValueError(f"depth {depth} is too deep for patches of images of {image_shape[1]} x {image_shape[2]}")
        widths = [image_shape[0], *(min(channels * 2**level, 8 * channels) for level in range(depth + 1))]
        self.out_dim = widths[-1]
        self.layers = nn.Sequential()
        for level, (c_in, c_out) in enumerate(itertools.pairwise(widths)):
            normed = level > 0 and norm != "none"
            stride = 2 if level < depth else 1
            bias = not normed or norm == "layer"  # the other norms take it out again
            self.layers.append(nn.Conv2d(c_in, c_out, KERNEL, stride, padding=1, bias=bias))
            if normed:
                self.layers.append(NORMS[norm](c_out))
            self.layers.append(nn.LeakyReLU(0.2))
        dcgan_init(self)
        if spectral_norm:
            spectrally_normed(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W, -> maps, N x out_dim x h x w."""
        return self.layers(2 * images - 1)


class MLPDiscriminator(Discriminator):
    """Fully connected layers of these widths with LeakyReLU.

    Args:
        hidden_dims: widths after the image.

    Raises:
        ValueError: there is no layer, or a width is below one.
    """

    def __init__(self, hidden_dims: tuple[int, ...] = (512, 256)) -> None:
        if not hidden_dims or any(width < 1 for width in hidden_dims):
            raise ValueError(f"hidden_dims are {list(hidden_dims)}; there must be one, and each at least 1")
        self.hidden_dims = hidden_dims

    def network(self, image_shape: Sequence[int]) -> FeatureNetwork:
        return _Flat(math.prod(image_shape), self.hidden_dims)

    def head(self, in_dim: int, out_dim: int) -> nn.Module:
        return nn.Linear(in_dim, out_dim)


class _Flat(FeatureNetwork):
    def __init__(self, in_dim: int, hidden_dims: Sequence[int]) -> None:
        super().__init__()
        self.out_dim = hidden_dims[-1]
        self.layers = nn.Sequential()
        for width_in, width_out in zip([in_dim, *hidden_dims], hidden_dims, strict=False):
            self.layers.append(nn.Linear(width_in, width_out))
            self.layers.append(nn.LeakyReLU(0.2))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(2 * images.flatten(1) - 1)
