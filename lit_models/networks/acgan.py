"""The networks of Odena et al. 2016 (AC-GAN, arXiv 1610.09585, appendix A) for CIFAR-10, and for other images."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from lit_models.networks.conv import strided_sizes
from lit_models.networks.features import FeatureNetwork
from lit_models.networks.init import dcgan_init
from lit_models.networks.noise import GaussianNoise

CHANNELS_UP = (384, 192, 96)
CHANNELS_DOWN = (16, 32, 64, 128, 256, 512)
STRIDES_DOWN = (2, 1, 2, 1, 2, 1)


class ACGANUp(nn.Module):
    """FC to 384 x 4 x 4, ReLU; transposed convolutions 5 x 5 of stride 2 to 192, 96 (batch norm, ReLU) and C; tanh."""

    def __init__(self, image_shape: Sequence[int], in_dim: int) -> None:
        super().__init__()
        sizes = strided_sizes((image_shape[1], image_shape[2]), 3, 5)[::-1]  # (4, 4), (7, 7), (14, 14), (28, 28)
        widths = [*CHANNELS_UP, image_shape[0]]
        small = (widths[0], *sizes[0])
        self.project = nn.Sequential(
            nn.Linear(in_dim, small[0] * small[1] * small[2]), nn.Unflatten(1, small), nn.ReLU()
        )
        self.layers = nn.Sequential()
        for c_in, c_out, at, to in zip(widths, widths[1:], sizes, sizes[1:], strict=False):
            missing = (to[0] - 2 * at[0] + 1, to[1] - 2 * at[1] + 1)
            self.layers.append(nn.ConvTranspose2d(c_in, c_out, 5, stride=2, padding=2, output_padding=missing))
            if c_out != image_shape[0]:
                self.layers.append(nn.BatchNorm2d(c_out))
                self.layers.append(nn.ReLU())
        dcgan_init(self)

    def forward(self, codes: Tensor) -> Tensor:
        """N x in_dim -> images in [0, 1], N x C x H x W."""
        return (self.layers(self.project(codes)).tanh() + 1) / 2


class ACGANDown(FeatureNetwork):
    """Six convolutions 3 x 3 to 16, 32, ..., 512 maps of strides 2, 1, 2, 1, 2, 1, each with batch norm but the first,
    LeakyReLU of slope 0.2, Gaussian noise and dropout; flat features."""

    def __init__(self, image_shape: Sequence[int], noise_std: float, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        widths = [image_shape[0], *CHANNELS_DOWN]
        for level, ((c_in, c_out), stride) in enumerate(zip(itertools.pairwise(widths), STRIDES_DOWN, strict=True)):
            self.layers.append(nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1))
            if level:
                self.layers.append(nn.BatchNorm2d(c_out))
            self.layers.append(nn.LeakyReLU(0.2))
            self.layers.append(GaussianNoise(noise_std))
            self.layers.append(nn.Dropout(dropout))
        height, width = strided_sizes((image_shape[1], image_shape[2]), 3, 3)[-1]
        self.out_dim = CHANNELS_DOWN[-1] * height * width
        dcgan_init(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W, -> N x out_dim."""
        return self.layers(2 * images - 1).flatten(1)
