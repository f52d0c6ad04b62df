"""How far images are from the ones that they should be."""

from torch import Tensor

MOST_PSNR = 100.0


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, -10 log10(mean squared error) for pixels in [0, 1]: dB, N.

    At most 100 dB, so that an image that equals its reference keeps a mean finite.
    """
    errors = (images.float() - references.float()).square().flatten(1).mean(dim=1)
    return -10 * errors.clamp(min=10 ** (-MOST_PSNR / 10)).log10()
