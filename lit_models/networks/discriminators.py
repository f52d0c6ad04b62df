"""Discriminators, to be injected into an adversarial model: a network of features, and the layer on top of it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from lit_models.networks.acgan import ACGANDown
from lit_models.networks.dcgan import Norm, Shrinking, spectrally_normed
from lit_models.networks.features import FeatureNetwork
from lit_models.networks.init import dcgan_init
from lit_models.parts import Part


class Discriminator(Part, ABC):
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
