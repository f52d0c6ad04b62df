"""Networks of DCGAN (Radford et al. 2015, arXiv 1511.06434)."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from lit_models.networks.conv import depth_of, doubling_channels, strided_sizes
from lit_models.networks.features import FeatureNetwork
from lit_models.networks.init import dcgan_init
from lit_models.networks.minibatch_std import MinibatchStd
from lit_models.networks.noise import GaussianNoise
from lit_models.networks.norms import NORMS, Norm, add_spectral_norm

KERNEL_SIZE = 4


def dcgan_channels(channels: int, depth: int | None, size: Sequence[int]) -> list[int]:
    """Channels after each halving, twice as many each time: c, 2 c, 4 c, ...

    Args:
        channels: The factor c.
        depth: Number of halvings. None: it follows from the size, and the channels are at most 8 c.
        size: Height and width of the images.
    """
    if depth is None:
        return doubling_channels(depth_of(size), channels, 8 * channels)
    return [channels * 2**level for level in range(depth)]


def dcgan_sizes(image_shape: Sequence[int], depth: int) -> list[tuple[int, int]]:
    """Heights and widths from the image's down, halved `depth` times: 28, 14, 7, 3 or 32, 16, 8, 4.

    Raises:
        ValueError: the image is too small.
    """
    return strided_sizes((image_shape[1], image_shape[2]), depth, KERNEL_SIZE)


class DCGANDecoder(nn.Module):
    """Codes to images: a fully connected layer to small maps, then transposed convolutions of stride 2; tanh.

    All layers but the last have batch norm and ReLU. For 32 x 32 pixels and a depth of 3, the maps are 4c x 4 x 4,
    2c x 8 x 8 and c x 16 x 16.

    Args:
        image_shape: Channels, height, width.
        in_dim: Width of the code.
        channels: c, channels of the largest hidden maps; each smaller size has twice as many.
        depth: Number of transposed convolutions. None: it follows from the size, and maps have at most 8c channels.
    """

    def __init__(self, image_shape: Sequence[int], in_dim: int, channels: int, depth: int | None = None) -> None:
        super().__init__()
        widths = [*reversed(dcgan_channels(channels, depth, image_shape[1:])), image_shape[0]]
        sizes = dcgan_sizes(image_shape, len(widths) - 1)[::-1]
        smallest = (widths[0], *sizes[0])
        self.project = nn.Sequential(
            nn.Linear(in_dim, smallest[0] * smallest[1] * smallest[2], bias=False),
            nn.Unflatten(1, smallest),
            nn.BatchNorm2d(smallest[0]),
            nn.ReLU(),
        )
        self.upsample = nn.Sequential()
        for level, (c_in, c_out) in enumerate(itertools.pairwise(widths)):
            at, to = sizes[level : level + 2]
            missing = (to[0] - 2 * at[0], to[1] - 2 * at[1])
            last = level == len(widths) - 2
            self.upsample.append(
                nn.ConvTranspose2d(c_in, c_out, KERNEL_SIZE, stride=2, padding=1, output_padding=missing, bias=last)
            )
            if not last:
                self.upsample.append(nn.BatchNorm2d(c_out))
                self.upsample.append(nn.ReLU())
        dcgan_init(self)

    def forward(self, codes: Tensor) -> Tensor:
        """N x in_dim -> images in [0, 1], N x C x H x W."""
        return (self.upsample(self.project(codes)).tanh() + 1) / 2


class DCGANFeatures(FeatureNetwork):
    """Images to features: convolutions of stride 2 with LeakyReLU of slope 0.2, all but the first normalised.

    Args:
        image_shape: Channels, height, width.
        channels: c, channels after the first convolution; each smaller size has twice as many.
        depth: Number of convolutions. None: it follows from the size, and maps have at most 8c channels.
        norm: Layer between convolution and activation.
        spectral_norm: Whether each weight is divided by its spectral norm (Miyato et al. 2018, arXiv 1802.05957).
        minibatch_std: Whether the minibatch standard deviation is appended to the last maps.
        noise_std: Standard deviation of Gaussian noise before each convolution, in training.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: int,
        depth: int | None = None,
        norm: Norm = "batch",
        spectral_norm: bool = False,
        minibatch_std: bool = False,
        noise_std: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [image_shape[0], *dcgan_channels(channels, depth, image_shape[1:])]
        height, width = dcgan_sizes(image_shape, len(widths) - 1)[-1]
        self.layers = nn.Sequential()
        for level, (c_in, c_out) in enumerate(itertools.pairwise(widths)):
            normed = level > 0 and norm != "none"
            if noise_std:
                self.layers.append(GaussianNoise(noise_std))
            convolution = nn.Conv2d(c_in, c_out, KERNEL_SIZE, stride=2, padding=1, bias=norm != "batch" or not normed)
            self.layers.append(convolution)
            if normed:
                self.layers.append(NORMS[norm](c_out))
            self.layers.append(nn.LeakyReLU(0.2))
        if minibatch_std:
            self.layers.append(MinibatchStd())
        self.out_dim = (widths[-1] + minibatch_std) * height * width
        dcgan_init(self)
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W, -> N x out_dim."""
        return self.layers(2 * images - 1).flatten(1)
