"""Differentiable augmentation of the images that a discriminator sees."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Augmentation = Literal["color", "translation", "cutout"]
GREY = 0.5
"""Value of the pixels that translation and cutout leave empty: the paper's zero, for images in [-1, 1]."""


def diff_augment(images: Tensor, augmentations: Sequence[Augmentation]) -> Tensor:
    """Random changes of each image, through which gradients flow: DiffAugment, Zhao et al. 2020, arXiv 2006.10738.

    Random numbers come from torch's global generator.

    Args:
        images: In [0, 1], N x C x H x W.
        augmentations: Changes in the order in which they are made. `color`: brightness, saturation and contrast;
            `translation`: by up to 1/8 of each side; `cutout`: of a rectangle with half of each side.

    Returns:
        N x C x H x W. Values may be out of [0, 1], as in the paper.

    Examples:
        >>> diff_augment(torch.rand(2, 3, 32, 32), ["translation", "cutout"]).shape
        torch.Size([2, 3, 32, 32])
    """
    for name in augmentations:
        images = _CHANGES[name](images)
    return images


def _color(images: Tensor) -> Tensor:
    """Brightness + U(-1/4, 1/4), half the paper's for images in [-1, 1]; saturation x U(0, 2); contrast x U(1/2, 3/2).

    Saturation is the distance from the mean of the channels, and does not exist in images of one channel. Contrast is
    the distance from the mean of the image.
    """
    images = images + (_uniform(images) - 0.5) / 2
    if images.shape[1] > 1:
        images = torch.lerp(images.mean(dim=1, keepdim=True), images, 2 * _uniform(images))
    return torch.lerp(images.mean(dim=(1, 2, 3), keepdim=True), images, _uniform(images) + 0.5)


def _translation(images: Tensor) -> Tensor:
    """Moves each image by up to 1/8 of its height and of its width, to whole pixels."""
    height, width = images.shape[2:]
    for dim, side in ((2, height), (3, width)):
        reach = int(side / 8 + 0.5)
        shift = torch.randint(-reach, reach + 1, (len(images), 1), device=images.device)
        source = torch.arange(reach, reach + side, device=images.device) + shift  # (N, side), of the padded side
        source = source[:, None, :, None] if dim == 2 else source[:, None, None, :]
        padding = (0, 0, reach, reach) if dim == 2 else (reach, reach)
        images = F.pad(images, padding, value=GREY).gather(dim, source.expand(images.shape))
    return images


def _cutout(images: Tensor) -> Tensor:
    """Empties a rectangle with half of each side, which may reach beyond the border."""
    n, _, height, width = images.shape
    rows, columns = (_interval(n, side, images.device) for side in (height, width))
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], GREY)


def _interval(n: int, side: int, device: torch.device) -> Tensor:
    """n random intervals of half of a side, as bool, n x side. Each centre is drawn from the whole side."""
    length = int(side / 2 + 0.5)
    start = torch.randint(side + 1 - length % 2, (n, 1), device=device) - length // 2
    places = torch.arange(side, device=device)
    return (places >= start) & (places < start + length)


def _uniform(images: Tensor) -> Tensor:
    """A number in [0, 1) for each image: N x 1 x 1 x 1."""
    return torch.rand(len(images), 1, 1, 1, device=images.device, dtype=images.dtype)


_CHANGES = {"color": _color, "translation": _translation, "cutout": _cutout}
