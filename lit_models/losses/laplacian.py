"""Laplacian pyramids of images, and how far those of two images are from each other."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

KERNEL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
SMALLEST = 4
"""Pixels along the shorter side that the last level has at least."""


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """What each halving of images takes away, finest first, and the small images that are left.

    Burt and Adelson 1983: L_k = G_k - up(G_{k+1}), where G_0 are the images and G_{k+1} = down(G_k). Both smooth by
    (1 4 6 4 1) / 16 along each axis, images mirrored at their edges. Enlarged and summed up again, from the smallest
    on, the levels give the images. The kernel and the zeros between pixels are in one matrix an axis, which for images
    of one channel is many times faster than a convolution.

    Args:
        images: N x C x H x W.

    Returns:
        Levels, N x C x H_k x W_k; each has half the height and width of the one before, rounded up.
    """
    levels = []
    while min(images.shape[-2:]) >= 2 * SMALLEST - 1:
        (down_h, up_h), (down_w, up_w) = (_resizing(size, images.dtype, images.device) for size in images.shape[-2:])
        smaller = down_h @ images @ down_w.T
        levels.append(images - up_h @ smaller @ up_w.T)
        images = smaller
    return [*levels, images]


def laplacian_l1(images: Tensor, references: Tensor) -> Tensor:
    """Mean absolute difference of two images' Laplacian pyramids, summed over the levels: N.

    Bojanowski et al. 2017, arXiv 1707.05776: sum_k 4^k |L_k(x) - L_k(y)|_1. Each level has a quarter of the pixels of
    the one before, so that 4^k makes it a mean but for a constant; as a mean it is one for odd sizes too, and does not
    grow with the image. Autocast is off, as the levels are small differences.

    Args:
        images, references: N x C x H x W.
    """
    with torch.autocast(images.device.type, enabled=False):
        levels = laplacian_pyramid(images - references)  # of the difference, as it is linear
    return torch.stack([level.abs().flatten(1).mean(dim=1) for level in levels]).sum(dim=0)


@cache
def _resizing(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Matrices that halve and double an axis: half x size and size x half, half rounded up."""
    with torch.inference_mode(False):  # or what a test makes first could not be trained through later
        mirrored = F.pad(torch.eye(size, dtype=torch.float64)[None], (2, 2), mode="reflect")[0]
        smoothing = (mirrored.unfold(1, len(KERNEL), 1) @ torch.tensor(KERNEL, dtype=torch.float64)).T
        down, up = smoothing[::2], 2 * smoothing[:, ::2]
        return down.to(device, dtype), up.to(device, dtype)
