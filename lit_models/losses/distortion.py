"""Errors of images compared with reference images."""

from torch import Tensor

MAX_PSNR = 100.0


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Returns the peak signal-to-noise ratio of each image in dB, -10 log10(mean squared error): N.

    Pixels are in [0, 1]. The value is at most 100 dB, so that a mean over images stays finite when one is exact.
    """
    errors = (images.float() - references.float()).square().flatten(1).mean(dim=1)
    return -10 * errors.clamp(min=10 ** (-MAX_PSNR / 10)).log10()
