"""Augmentations of a whole batch at once: (images, random generator) -> images, float in [0, 1]."""

import torch
from torch import Tensor
from torch.nn import functional as F


class RandomShift:
    """Shifts each image by its own random number of pixels along each axis, and fills with zeros.

    Args:
        pixels: Largest shift along each axis, in pixels.
    """

    def __init__(self, pixels: int = 2) -> None:
        if pixels < 0:
            raise ValueError(f"pixels is {pixels}; give a shift of at least 0")
        self.pixels = pixels

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, _, height, width = images.shape
        p = self.pixels
        padded = F.pad(images, (p, p, p, p))
        top, left = torch.randint(0, 2 * p + 1, (2, n), generator=generator, device=images.device)
        return windows(padded, top, left, (height, width))


def windows(images: Tensor, top: Tensor, left: Tensor, size: tuple[int, int]) -> Tensor:
    """Cuts a window of `size`, (h, w), out of each image, N x C x H x W, at its own place: N x C x h x w.

    Args:
        images: The images.
        top: First row of each window, int64, N.
        left: First column of each window, int64, N.
        size: Height and width of the windows.
    """
    (n, channels), (height, width) = images.shape[:2], size
    rows = top[:, None] + torch.arange(height, device=images.device)  # (N, h)
    columns = left[:, None] + torch.arange(width, device=images.device)  # (N, w)
    flat = rows[:, :, None] * images.shape[3] + columns[:, None, :]  # (N, h, w)
    index = flat.view(n, 1, -1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, index).view(n, channels, height, width)


class RandomFlip:
    """Mirrors half of the images horizontally, each at random."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        mirrored = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
        return torch.where(mirrored, images.flip(3), images)
