"""Fourier spectra of images."""

import torch
from torch import Tensor

FLOOR = 1e-4
"""Added to powers, that of noise with a standard deviation of a hundredth, so that what is not there at all does not
count for ever."""


def power_spectrum(images: Tensor) -> Tensor:
    """Mean over images and channels of |Fourier transform|^2 / (H W), of the half that says all: H x (W / 2 + 1).

    Args:
        images: N x C x H x W.
    """
    return torch.fft.rfft2(images.float(), norm="ortho").abs().square().mean(dim=(0, 1))


def spectrum_penalty(images: Tensor, references: Tensor) -> Tensor:
    """Mean over frequencies of the squared difference of the logarithms of two sets' mean power spectra.

    Args:
        images: N x C x H x W.
        references: M x C x H x W, of the same size; they need not show the same.
    """
    ours, theirs = (torch.log(power_spectrum(x) + FLOOR) for x in (images, references))
    return (ours - theirs.detach()).square().mean()
