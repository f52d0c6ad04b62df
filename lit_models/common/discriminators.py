"""Discriminators: components that build a network of features and the layer on top of it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from lit_models.common.component import Component
from lit_models.networks.acgan import ACGANFeatures
from lit_models.networks.conv import check_doubling, depth_of
from lit_models.networks.dcgan import DCGANFeatures
from lit_models.networks.discriminators import UnconditionalDiscriminator
from lit_models.networks.features import FeatureNetwork, MaxPoolFeatures, MLPFeatures
from lit_models.networks.init import channels_last, dcgan_init, fan_in_init, glorot_init
from lit_models.networks.norms import Norm, add_spectral_norm
from lit_models.networks.patchgan import KERNEL_SIZE, PatchGANFeatures
from lit_models.networks.r3gan import R3GANFeatures
from lit_models.networks.resnet_gan import ResNetFeatures, SingleImageNorm


class Discriminator(Component, ABC):
    """Component that builds discriminators, whole or as features and head."""

    def build(self, image_shape: Sequence[int]) -> UnconditionalDiscriminator:
        """A network from images in [0, 1], N x C x H x W, to logits, N, or N x h x w for patches."""
        features = self.build_features(image_shape)
        return UnconditionalDiscriminator(features, self.build_head(features.out_dim, 1))

    @abstractmethod
    def build_features(self, image_shape: Sequence[int]) -> FeatureNetwork:
        """A network from images in [0, 1], N x C x H x W, to features."""

    def build_head(self, in_dim: int, out_dim: int) -> nn.Module:
        """The last layer, from features to logits."""
        return self.init_layer(nn.Linear(in_dim, out_dim))

    def init_layer(self, layer: nn.Module) -> nn.Module:
        """Initialises a layer on top of the features like the network of features, with its spectral norm if any."""
        return dcgan_init(layer)


class DCGANDiscriminator(Discriminator):
    """Convolutions of stride 2 with LeakyReLU (Radford et al. 2015, arXiv 1511.06434).

    Args:
        channels: Channels of the maps at half the image's size; twice as many at each smaller size.
        depth: Number of convolutions, each of which halves the size. By default it follows from the size of the images,
            3 for 28 and 32, 4 for 64, 5 for 128, and maps have at most eight times as many channels.
        norm: Layer after each convolution but the first.
        spectral_norm: Whether each weight is divided by its spectral norm (Miyato et al. 2018, arXiv 1802.05957).
        minibatch_std: Whether the standard deviation of a minibatch is appended to the last maps (Karras et al. 2017,
            arXiv 1710.10196).
        noise_std: Standard deviation of Gaussian noise that is added before each convolution in training.

    Raises:
        ValueError: a number is too small; from `build`, the image is too small to be halved `depth` times.
    """

    def __init__(
        self,
        channels: int = 64,
        depth: int | None = None,
        norm: Norm = "batch",
        spectral_norm: bool = False,
        minibatch_std: bool = False,
        noise_std: float = 0.0,
    ) -> None:
        if channels < 1 or (depth is not None and depth < 1) or not noise_std >= 0:
            raise ValueError(
                f"channels is {channels}, depth {depth} and noise_std {noise_std}; they must be at least 1, 1 and 0"
            )
        self.channels = channels
        self.depth = depth
        self.norm: Norm = norm
        self.spectral_norm = spectral_norm
        self.minibatch_std = minibatch_std
        self.noise_std = noise_std

    def build_features(self, image_shape: Sequence[int]) -> FeatureNetwork:
        return DCGANFeatures(
            image_shape, self.channels, self.depth, self.norm, self.spectral_norm, self.minibatch_std, self.noise_std
        )

    def init_layer(self, layer: nn.Module) -> nn.Module:
        return add_spectral_norm(super().init_layer(layer)) if self.spectral_norm else super().init_layer(layer)


class ResNetDiscriminator(Discriminator):
    """Residual blocks with average pooling, then a sum over all positions, for images of any size.

    Gulrajani et al. 2017, arXiv 1704.00028, and Miyato et al. 2018, arXiv 1802.05957, appendix B.4. Miyato et al. use
    spectral norm, no other norm, and Hinge as the objective. Their discriminator for CIFAR-10 has 128 `channels` and
    `max_channels`, a depth of 2 and 2 `last_blocks`, and those for STL-10 and for ImageNet at 128 x 128 have 64 and
    1024. With the objective Wasserstein, Gulrajani et al. use no spectral norm, and recommend `norm` layer.

    Args:
        channels: Channels after the first block; each block doubles them.
        max_channels: Largest number of channels.
        depth: Number of residual blocks, each of which halves the size. By default it follows from the image's size:
            as many as leave maps of at least 3 x 3.
        last_blocks: Number of residual blocks after them, which keep the size.
        norm: Layer before each ReLU.
        spectral_norm: Whether each weight is divided by its spectral norm.
        minibatch_std: Whether the standard deviation of a minibatch is appended to the last maps (Karras et al. 2017,
            arXiv 1710.10196).

    Raises:
        ValueError: a number is too small; from `build`, the image is too small to be halved `depth` times.

    Examples:
        >>> import torch
        >>> ResNetDiscriminator(4, 8).build((3, 100, 60))(torch.zeros(2, 3, 100, 60)).shape
        torch.Size([2])
    """

    def __init__(
        self,
        channels: int = 64,
        max_channels: int = 512,
        depth: int | None = None,
        last_blocks: int = 1,
        norm: SingleImageNorm = "none",
        spectral_norm: bool = True,
        minibatch_std: bool = False,
    ) -> None:
        check_doubling(channels, max_channels, depth)
        if last_blocks < 0:
            raise ValueError(f"last_blocks is {last_blocks}; it must be at least 0")
        self.channels = channels
        self.max_channels = max_channels
        self.depth = depth
        self.last_blocks = last_blocks
        self.norm: SingleImageNorm = norm
        self.spectral_norm = spectral_norm
        self.minibatch_std = minibatch_std

    def build_features(self, image_shape: Sequence[int]) -> FeatureNetwork:
        return channels_last(
            ResNetFeatures(
                image_shape,
                self.channels,
                self.max_channels,
                self.depth or depth_of(image_shape[1:]),
                self.last_blocks,
                self.norm,
                self.spectral_norm,
                self.minibatch_std,
            )
        )

    def init_layer(self, layer: nn.Module) -> nn.Module:
        return add_spectral_norm(glorot_init(layer)) if self.spectral_norm else glorot_init(layer)


class R3GANDiscriminator(Discriminator):
    """Residual blocks of grouped convolutions without any norm, for images of any size.

    Huang et al. 2025 (R3GAN), arXiv 2501.05441, section 4. They use the objective Relativistic and the gradient
    penalties `r1` and `r2` of the recipe. Their discriminator for CIFAR-10 has 768 `channels` and `max_channels`, and 2
    `blocks`.

    Args:
        channels: Channels of the maps of the image's size; twice as many at each smaller size.
        max_channels: Largest number of channels.
        depth: Number of times that the size is halved. By default it follows from the image's size: as often as leaves
            maps of at least 3 x 3.
        blocks: Number of residual blocks at each size.

    Raises:
        ValueError: a number is below one; from `build`, the image is too small to be halved `depth` times.

    Examples:
        >>> import torch
        >>> R3GANDiscriminator(4, 8).build((3, 50, 30))(torch.zeros(2, 3, 50, 30)).shape
        torch.Size([2])
    """

    def __init__(self, channels: int = 32, max_channels: int = 256, depth: int | None = None, blocks: int = 1) -> None:
        check_doubling(channels, max_channels, depth)
        if blocks < 1:
            raise ValueError(f"blocks is {blocks}; it must be at least 1")
        self.channels = channels
        self.max_channels = max_channels
        self.depth = depth
        self.blocks = blocks

    def build_features(self, image_shape: Sequence[int]) -> FeatureNetwork:
        depth = self.depth or depth_of(image_shape[1:])
        return channels_last(R3GANFeatures(image_shape, self.channels, self.max_channels, depth, self.blocks))

    def build_head(self, in_dim: int, out_dim: int) -> nn.Module:
        return self.init_layer(nn.Linear(in_dim, out_dim, bias=False))

    def init_layer(self, layer: nn.Module) -> nn.Module:
        return fan_in_init(layer)


class ACGANDiscriminator(Discriminator):
    """The discriminator of Odena et al. 2016, arXiv 1610.09585, appendix A, for CIFAR-10; deeper from 48 pixels on.

    Args:
        noise_std: Standard deviation of Gaussian noise that is added to the activations in training.
        dropout: Probability that training drops an activation.

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

    def build_features(self, image_shape: Sequence[int]) -> FeatureNetwork:
        return ACGANFeatures(image_shape, self.noise_std, self.dropout)


class PoolingDiscriminator(Discriminator):
    """Two convolutions, each with ReLU and 2 x 2 max pooling, then two fully connected layers.

    Args:
        channels: Channels of the two convolutions.
        hidden_dim: Width of the first fully connected layer.
        kernel_size: Side of the convolutions' kernels, an odd number.

    Raises:
        ValueError: a number is below one or the kernel even; from `build`, the image is too small to be halved twice.
    """

    def __init__(self, channels: tuple[int, int] = (32, 64), hidden_dim: int = 128, kernel_size: int = 5) -> None:
        if min(*channels, hidden_dim, kernel_size) < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"channels are {list(channels)}, hidden_dim is {hidden_dim} and kernel_size {kernel_size}; they must be"
                " at least 1, and kernel_size odd"
            )
        self.channels = channels
        self.hidden_dim = hidden_dim
        self.kernel_size = kernel_size

    def build_features(self, image_shape: Sequence[int]) -> FeatureNetwork:
        return channels_last(MaxPoolFeatures(image_shape, self.channels, self.hidden_dim, self.kernel_size))

    def init_layer(self, layer: nn.Module) -> nn.Module:
        return layer


class PatchDiscriminator(Discriminator):
    """PatchGAN: a logit for each of many overlapping patches of an image, for images of any size.

    Isola et al. 2016 (pix2pix), arXiv 1611.07004, section 6.1.2: convolutions of stride 2, one of stride 1, and one
    that makes the logits. With a depth of 1, 2, 3 each logit depends on a patch of 16, 34, 70 pixels a side.

    Args:
        channels: Channels after the first convolution; twice as many after each, at most eight times as many.
        depth: Number of convolutions of stride 2. By default it follows from the size of the images: 2 for 28 and 32, 3
            from 48 on, whose patches are the paper's.
        norm: Layer after each convolution but the first.
        spectral_norm: Whether each weight is divided by its spectral norm (Miyato et al. 2018, arXiv 1802.05957).

    Raises:
        ValueError: a number is below one; from `build`, the image is too small to be halved `depth` times.
    """

    def __init__(
        self, channels: int = 32, depth: int | None = None, norm: Norm = "instance", spectral_norm: bool = False
    ) -> None:
        if channels < 1 or (depth is not None and depth < 1):
            raise ValueError(f"channels is {channels} and depth {depth}; both must be at least 1")
        self.channels = channels
        self.depth = depth
        self.norm: Norm = norm
        self.spectral_norm = spectral_norm

    def build_features(self, image_shape: Sequence[int]) -> FeatureNetwork:
        depth = min(3, max(1, depth_of(image_shape[1:]) - 1)) if self.depth is None else self.depth
        return channels_last(PatchGANFeatures(image_shape, self.channels, depth, self.norm, self.spectral_norm))

    def build_head(self, in_dim: int, out_dim: int) -> nn.Module:
        """The last convolution, from maps to logits, N x out_dim x h x w."""
        return self.init_layer(nn.Conv2d(in_dim, out_dim, KERNEL_SIZE, padding=1))

    def init_layer(self, layer: nn.Module) -> nn.Module:
        return add_spectral_norm(super().init_layer(layer)) if self.spectral_norm else super().init_layer(layer)


class MLPDiscriminator(Discriminator):
    """Fully connected layers with LeakyReLU.

    Args:
        hidden_dims: Widths of the hidden layers, from the image to the logit.

    Raises:
        ValueError: there is no hidden layer, or a width is below one.
    """

    def __init__(self, hidden_dims: tuple[int, ...] = (512, 256)) -> None:
        if not hidden_dims or any(width < 1 for width in hidden_dims):
            raise ValueError(f"hidden_dims are {list(hidden_dims)}; there must be at least one, each at least 1")
        self.hidden_dims = hidden_dims

    def build_features(self, image_shape: Sequence[int]) -> FeatureNetwork:
        return MLPFeatures(image_shape, self.hidden_dims)

    def build_head(self, in_dim: int, out_dim: int) -> nn.Module:
        return nn.Linear(in_dim, out_dim)
