"""Laplacian pyramids of images, and the L1 distance between them."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

KERNEL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
SMALLEST = 4
"""Smallest shorter side of the last level in pixels."""


def laplacian_pyramid(images: Tensor) -> list[Tensor]:
    """Returns what each halving of the images removes, finest level first, and the small images that remain.

    Burt and Adelson 1983: L_k = G_k - up(G_{k+1}), where G_0 are the images and G_{k+1} = down(G_k). Both smooth with
    (1 4 6 4 1) / 16 along each axis, and images are mirrored at their edges. The levels, upsampled and summed from the
    smallest on, give the images. Kernel and zero insertion are one matrix per axis, which is many times faster than a
    convolution for images of one channel.

    Args:
        images: N x C x H x W.

    Returns:
        Levels, N x C x H_k x W_k; each has half the height and width of the previous one, rounded up.
    """
    levels = []
    while min(images.shape[-2:]) >= 2 * SMALLEST - 1:
        (down_h, up_h), (down_w, up_w) = (_resizing(size, images.dtype, images.device) for size in images.shape[-2:])
        smaller = down_h @ images @ down_w.T
        levels.append(images - up_h @ smaller @ up_w.T)
        images = smaller
    return [*levels, images]


def laplacian_l1(images: Tensor, references: Tensor) -> Tensor:
    """Returns the mean absolute difference of the Laplacian pyramids of two images, summed over the levels: N.

    Bojanowski et al. 2017, arXiv 1707.05776, use sum_k 4^k |L_k(x) - L_k(y)|_1. Each level has a quarter of the pixels
    of the previous one, so that 4^k makes the norm a mean up to a constant. Here it is a mean, which is also right for
    odd sizes and does not grow with the image. Autocast is off because the levels are small differences.

    Args:
        images: N x C x H x W.
        references: Images of the same shape.
    """
    with torch.autocast(images.device.type, enabled=False):
        levels = laplacian_pyramid(images - references)  # the pyramid is linear
    return torch.stack([level.abs().flatten(1).mean(dim=1) for level in levels]).sum(dim=0)


@cache
def _resizing(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the matrices that halve and double an axis: half x size and size x half, with half rounded up."""
    with torch.inference_mode(False):  # the cached matrices must also be usable in training
        mirrored = F.pad(torch.eye(size, dtype=torch.float64)[None], (2, 2), mode="reflect")[0]
        smoothing = (mirrored.unfold(1, len(KERNEL), 1) @ torch.tensor(KERNEL, dtype=torch.float64)).T
        down, up = smoothing[::2], 2 * smoothing[:, ::2]
        return down.to(device, dtype), up.to(device, dtype)
