"""Features of image patches for a PatchGAN discriminator (Isola et al. 2016, arXiv 1611.07004, section 6.1.2)."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from lit_models.networks.conv import MIN_SIDE, depth_of, doubling_channels
from lit_models.networks.features import FeatureNetwork
from lit_models.networks.init import dcgan_init
from lit_models.networks.norms import NORMS, Norm, add_spectral_norm

KERNEL_SIZE = 4


class PatchGANFeatures(FeatureNetwork):
    """Images to maps of features: `depth` convolutions of stride 2 and one of stride 1, with LeakyReLU of slope 0.2.

    Args:
        image_shape: Channels, height, width.
        channels: Channels after the first convolution; twice as many after each, at most eight times as many.
        depth: Number of convolutions of stride 2.
        norm: Layer after each convolution but the first.
        spectral_norm: Whether each weight is divided by its spectral norm (Miyato et al. 2018, arXiv 1802.05957).

    Raises:
        ValueError: the image is too small.
    """

    def __init__(self, image_shape: Sequence[int], channels: int, depth: int, norm: Norm, spectral_norm: bool) -> None:
        super().__init__()
        side = min(image_shape[1:])
        if side // 2**depth < MIN_SIDE:  # two 4 x 4 convolutions of stride 1 make a map two pixels smaller
            advice = f"give at most {depth_of(image_shape[1:])}" if side >= 2 * MIN_SIDE else "use DCGANDiscriminator"
            raise ValueError(
                f"depth {depth} is too deep for patches of images of {image_shape[1]} x {image_shape[2]}: {advice}"
            )
        widths = [image_shape[0], *doubling_channels(depth + 1, channels, 8 * channels)]
        self.out_dim = widths[-1]
        self.layers = nn.Sequential()
        for level, (c_in, c_out) in enumerate(itertools.pairwise(widths)):
            normed = level > 0 and norm != "none"
            stride = 2 if level < depth else 1
            bias = not normed or norm == "layer"  # the other norms subtract it again
            self.layers.append(nn.Conv2d(c_in, c_out, KERNEL_SIZE, stride, padding=1, bias=bias))
            if normed:
                self.layers.append(NORMS[norm](c_out))
            self.layers.append(nn.LeakyReLU(0.2))
        dcgan_init(self)
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1], N x C x H x W, -> maps, N x out_dim x h x w."""
        return self.layers(2 * images - 1)
