"""What a denoising model has to undo: corruptions of a whole batch at once, on its device.

Each has one argument, `strength`: 0 leaves an image as it is, 1 leaves little of it. It is the standard deviation of
noise on pixels in [0, 1], the share of pixels that are masked, and the width of a blur or a blob by the image's size.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_models.common.component import Component
from lit_models.losses.likelihood import LikelihoodKind


class Corruption(Component, ABC):
    """Images N x C x H x W in [0, 1] to such images, each corrupted by draws of its own.

    Draws come from `generator`, which lies on the images' device, or from torch's global one.

    Args:
        strength: how much, at least 0.

    Raises:
        ValueError: `strength` is out of range.
    """

    likelihood: ClassVar[LikelihoodKind] = "gaussian"
    """Of a clean pixel, that goes with it: L1 for Laplace noise, else L2."""
    most: ClassVar[float] = math.inf

    def __init__(self, strength: float = 0.3) -> None:
        if not 0 <= strength <= self.most:
            raise ValueError(f"strength is {strength}; {type(self).__name__} takes 0 to {self.most}")
        self.strength = strength

    @abstractmethod
    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor: ...


class GaussianNoise(Corruption):
    """x + s e, e ~ N(0, 1), clipped to [0, 1], with s = strength."""

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.empty_like(images).normal_(generator=generator)
        return (images + self.strength * noise).clamp(0, 1)


class LaplaceNoise(Corruption):
    """x + e, e of density exp(-|e| / b) / 2b, clipped to [0, 1]; b = strength / sqrt(2), so that sd e = strength."""

    likelihood = "laplace"

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        # The difference of two draws of an exponential law has a Laplace law.
        noise = torch.empty(2, *images.shape, dtype=images.dtype, device=images.device).exponential_(
            generator=generator
        )
        return (images + self.strength / math.sqrt(2) * (noise[0] - noise[1])).clamp(0, 1)


class Blur(Corruption):
    """Convolution with a Gaussian whose standard deviation is strength times an eighth of the shorter side in pixels.

    The image goes on beyond its edges as it ends there. At 28 x 28, strength 1 is a blur of 3.5 pixels.
    """

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        sigma = self.strength * min(images.shape[2:]) / 8
        if sigma == 0:
            return images
        reach = math.ceil(4 * sigma)
        at = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
        kernel = torch.exp(-0.5 * (at / sigma).square())
        kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
        channels = images.flatten(0, 1)[:, None]  # (NC, 1, H, W)
        padded = F.pad(channels, (reach, reach, reach, reach), mode="replicate")
        blurred = F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3))
        return blurred.view_as(images).clamp(0, 1)  # rounding may leave the range


class Masking(Corruption):
    """Sets each pixel, all its channels together, to 0 with probability strength (Vincent et al. 2008)."""

    most = 1.0

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        pixels = torch.empty_like(images[:, :1]).uniform_(generator=generator)  # in [0, 1)
        return images * (pixels >= self.strength)


class ColoredBlob(Corruption):
    """Paints one opaque disc over each image, whole within it; its edge is soft over one pixel.

    Its diameter is strength times the shorter side. Its colour is uniform but bright: the largest channel is drawn from
    [0.5, 1], so that a blob on grey images is a light one. Stands in for a red eye, a scratch, a date in the corner.
    """

    most = 1.0

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        n, channels, height, width = images.shape
        draws = torch.empty(n, channels + 3, device=images.device, dtype=images.dtype).uniform_(generator=generator)
        colour, brightness, place = draws.split([channels, 1, 2], dim=1)
        colour = colour / colour.amax(dim=1, keepdim=True).clamp(min=1e-6) * (0.5 + 0.5 * brightness)  # (N, C)
        radius = self.strength * min(height, width) / 2
        sides = images.new_tensor([height, width])
        centre = radius + place * (sides - 2 * radius)  # (N, 2), where pixel i covers [i, i + 1]
        rows = torch.arange(height, device=images.device) + 0.5 - centre[:, :1]  # (N, H)
        columns = torch.arange(width, device=images.device) + 0.5 - centre[:, 1:]  # (N, W)
        distance = torch.hypot(rows[:, :, None], columns[:, None, :])[:, None]  # (N, 1, H, W)
        alpha = (radius - distance + 0.5).clamp(0, 1) if radius else torch.zeros_like(distance)
        return alpha * colour[:, :, None, None] + (1 - alpha) * images
