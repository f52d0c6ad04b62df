"""All-convolutional generator and discriminator."""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from lit_models.networks.conv import strided_sizes
from lit_models.networks.features import FeatureNetwork
from lit_models.networks.init import dcgan_init
from lit_models.networks.minibatch_std import MinibatchStd
from lit_models.networks.noise import GaussianNoise

Norm = Literal["batch", "instance", "layer", "none"]
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "layer": lambda channels: nn.GroupNorm(1, channels),
}
KERNEL = 4


def dcgan_sizes(image_shape: Sequence[int], depth: int) -> list[tuple[int, int]]:
    """Heights and widths from the image's down, halved `depth` times: 28, 14, 7, 3 or 32, 16, 8, 4.

    Raises:
        ValueError: the image is too small for it.
    """
    return strided_sizes((image_shape[1], image_shape[2]), depth, KERNEL)


class Enlarging(nn.Module):
    """Fully connected to small maps, then transposed convolutions of stride 2 with batch norm and ReLU; tanh.

    Radford et al. 2015, arXiv 1511.06434. For 32 x 32 and a depth of 3: 4c x 4 x 4, 2c x 8 x 8, c x 16 x 16, image.

    Args:
        image_shape: channels, height, width.
        in_dim: width of the code.
        channels: c, of the largest hidden maps; each smaller size has twice as many.
        depth: number of transposed convolutions.
    """

    def __init__(self, image_shape: Sequence[int], in_dim: int, channels: int, depth: int) -> None:
        super().__init__()
        sizes = dcgan_sizes(image_shape, depth)[::-1]
        widths = [*(channels * 2**level for level in reversed(range(depth))), image_shape[0]]
        small = (widths[0], *sizes[0])
        self.project = nn.Sequential(
            nn.Linear(in_dim, small[0] * small[1] * small[2], bias=False),
            nn.Unflatten(1, small),
            nn.BatchNorm2d(small[0]),
            nn.ReLU(),
        )
        self.enlarge = nn.Sequential()
        for level, (c_in, c_out) in enumerate(itertools.pairwise(widths)):
            at, to = sizes[level : level + 2]
            missing = (to[0] - 2 * at[0], to[1] - 2 * at[1])
            last = level == depth - 1
            self.enlarge.append(
                nn.ConvTranspose2d(c_in, c_out, KERNEL, stride=2, padding=1, output_padding=missing, bias=last)
            )
            if not last:
                self.enlarge.append(nn.BatchNorm2d(c_out))
                self.enlarge.append(nn.ReLU())
        dcgan_init(self)

    def forward(self, codes: Tensor) -> Tensor:
        """N x in_dim -> images in [0, 1], N x C x H x W."""
        return (self.enlarge(self.project(codes)).tanh() + 1) / 2


class Shrinking(FeatureNetwork):
    """Convolutions of stride 2 with LeakyReLU of slope 0.2, normalised but for the first; flat features.

    Args:
        image_shape: channels, height, width.
        channels: c, of the first convolution; each smaller size has twice as many.
        depth: number of convolutions.
        norm: between convolution and activation.
        spectral_norm: hold each weight's spectral norm at one (Miyato et al. 2018, arXiv 1802.05957).
        minibatch_std: append the minibatch standard deviation to the last maps.
        noise_std: of Gaussian noise before each convolution, in training.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: int,
        depth: int = 3,
        norm: Norm = "batch",
        spectral_norm: bool = False,
        minibatch_std: bool = False,
        noise_std: float = 0.0,
    ) -> None:
        super().__init__()
        height, width = dcgan_sizes(image_shape, depth)[-1]
        widths = [image_shape[0], *(channels * 2**level for level in range(depth))]
        self.layers = nn.Sequential()
        for level, (c_in, c_out) in enumerate(itertools.pairwise(widths)):
            normed = level > 0 and norm != "none"
            if noise_std:
                self.layers.append(GaussianNoise(noise_std))
            convolution = nn.Conv2d(c_in, c_out, KERNEL, stride=2, padding=1, bias=norm != "batch" or not normed)
            self.layers.append(convolution)
            if normed:
                self.layers.append(NORMS[norm](c_out))
            self.layers.append(nn.LeakyReLU(0.2))
        if minibatch_std:
            self.layers.append(MinibatchStd())
        self.out_dim = (widths[-1] + minibatch_std) * height * width
        dcgan_init(self)
        if spectral_norm:
            spectrally_normed(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W, -> N x out_dim."""
        return self.layers(2 * images - 1).flatten(1)


def spectrally_normed(network: nn.Module) -> nn.Module:
    """Every convolution, linear layer and embedding of it under spectral norm."""
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            with_spectral_norm(module)
    return network
