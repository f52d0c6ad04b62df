"""Networks of AC-GAN for CIFAR-10 (Odena et al. 2016, arXiv 1610.09585, appendix A), for images of any shape."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from lit_models.networks.conv import depth_of, strided_sizes
from lit_models.networks.features import FeatureNetwork
from lit_models.networks.init import dcgan_init
from lit_models.networks.noise import GaussianNoise

DECODER_CHANNELS = (384, 192, 96)
FEATURE_CHANNELS = (16, 32, 64, 128, 256, 512)


def acgan_depth(image_shape: Sequence[int]) -> int:
    """How often an image is halved: three times, as in the paper, or more often if it is large."""
    return max(3, depth_of(image_shape[1:]))


class ACGANDecoder(nn.Module):
    """Codes to images: a fully connected layer to 384 maps with ReLU, then three transposed convolutions; tanh.

    The transposed convolutions are 5 x 5 of stride 2, to 192 and 96 maps with batch norm and ReLU, and to the image.
    From 48 pixels on, there are more before them, to 384 maps with batch norm and ReLU.

    Args:
        image_shape: Channels, height, width.
        in_dim: Width of the code.
    """

    def __init__(self, image_shape: Sequence[int], in_dim: int) -> None:
        super().__init__()
        depth = acgan_depth(image_shape)
        sizes = strided_sizes((image_shape[1], image_shape[2]), depth, 5)[::-1]  # (4, 4), (7, 7), (14, 14), (28, 28)
        widths = [*DECODER_CHANNELS[:1] * (depth - 3), *DECODER_CHANNELS, image_shape[0]]
        smallest = (widths[0], *sizes[0])
        self.project = nn.Sequential(
            nn.Linear(in_dim, smallest[0] * smallest[1] * smallest[2]), nn.Unflatten(1, smallest), nn.ReLU()
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


class ACGANFeatures(FeatureNetwork):
    """Images to features: six 3 x 3 convolutions to 16, 32, ..., 512 maps, of strides 2, 1, 2, 1, 2, 1.

    Each has batch norm (but the first), LeakyReLU of slope 0.2, Gaussian noise and dropout. From 48 pixels on, there
    are more pairs of strides 2 and 1 to 512 maps.

    Args:
        image_shape: Channels, height, width.
        noise_std: Standard deviation of Gaussian noise on the activations, in training.
        dropout: Probability that training drops an activation.
    """

    def __init__(self, image_shape: Sequence[int], noise_std: float, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        depth = acgan_depth(image_shape)
        widths = [image_shape[0], *FEATURE_CHANNELS, *FEATURE_CHANNELS[-1:] * 2 * (depth - 3)]
        for level, (c_in, c_out) in enumerate(itertools.pairwise(widths)):
            self.layers.append(nn.Conv2d(c_in, c_out, 3, stride=1 + (level + 1) % 2, padding=1))
            if level:
                self.layers.append(nn.BatchNorm2d(c_out))
            self.layers.append(nn.LeakyReLU(0.2))
            self.layers.append(GaussianNoise(noise_std))
            self.layers.append(nn.Dropout(dropout))
        height, width = strided_sizes((image_shape[1], image_shape[2]), depth, 3)[-1]
        self.out_dim = FEATURE_CHANNELS[-1] * height * width
        dcgan_init(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W, -> N x out_dim."""
        return self.layers(2 * images - 1).flatten(1)
