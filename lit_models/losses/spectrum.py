"""Power spectra of images."""

import torch
from torch import Tensor

FLOOR = 1e-4
"""Added to each power, which bounds the logarithm of a missing frequency: the power of noise of standard deviation
0.01."""


def power_spectrum(images: Tensor) -> Tensor:
    """Returns the mean over images and channels of |Fourier transform|^2 / (H W): H x (W // 2 + 1).

    The other frequencies follow by symmetry.

    Args:
        images: N x C x H x W.
    """
    return torch.fft.rfft2(images.float(), norm="ortho").abs().square().mean(dim=(0, 1))


def spectrum_penalty(images: Tensor, references: Tensor) -> Tensor:
    """Returns the mean over frequencies of the squared difference of the log mean power spectra of two sets.

    Args:
        images: N x C x H x W.
        references: M x C x H x W. They need not show the same content.
    """
    ours, theirs = (torch.log(power_spectrum(x) + FLOOR) for x in (images, references))
    return (ours - theirs.detach()).square().mean()
