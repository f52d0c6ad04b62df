"""Corruptions of images, which a denoising model learns to undo. They work on a whole batch, on its device.

Each has one argument, `strength`: 0 leaves an image unchanged, 1 leaves little of it. It is the standard deviation of
noise on pixels in [0, 1], the share of masked pixels, or the width of a blur or a blob relative to the image.
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
    """Corrupts images in [0, 1], N x C x H x W -> N x C x H x W, with independent draws for each image.

    Args:
        strength: Strength of the corruption, at least 0.

    Raises:
        ValueError: `strength` is out of range.
    """

    likelihood: ClassVar[LikelihoodKind] = "gaussian"
    """Likelihood of a clean pixel that suits the corruption: laplace (L1) for Laplace noise, else gaussian (L2)."""
    max_strength: ClassVar[float] = math.inf
    """Largest strength that makes sense."""

    def __init__(self, strength: float = 0.3) -> None:
        if not 0 <= strength <= self.max_strength:
            raise ValueError(f"strength is {strength}; {type(self).__name__} takes 0 to {self.max_strength}")
        self.strength = strength

    @abstractmethod
    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Returns the corrupted images.

        Args:
            images: Images in [0, 1], N x C x H x W.
            generator: Random generator on the images' device; torch's global one by default.
        """


class GaussianNoise(Corruption):
    """x + s e, clipped to [0, 1], with e ~ N(0, 1) for each pixel.

    Args:
        strength: Standard deviation s of the noise.

    Examples:
        >>> GaussianNoise(0.1)(torch.zeros(2, 1, 4, 4)).shape
        torch.Size([2, 1, 4, 4])
    """

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.empty_like(images).normal_(generator=generator)
        return (images + self.strength * noise).clamp(0, 1)


class LaplaceNoise(Corruption):
    """x + e, clipped to [0, 1], where e has density exp(-|e| / b) / 2b with b = strength / sqrt(2).

    Args:
        strength: Standard deviation of the noise.

    Examples:
        >>> LaplaceNoise(0.1)(torch.zeros(2, 1, 4, 4)).shape
        torch.Size([2, 1, 4, 4])
    """

    likelihood = "laplace"

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        # The difference of two exponential variables has a Laplace distribution.
        noise = torch.empty(2, *images.shape, dtype=images.dtype, device=images.device).exponential_(
            generator=generator
        )
        return (images + self.strength / math.sqrt(2) * (noise[0] - noise[1])).clamp(0, 1)


class Blur(Corruption):
    """Convolution with a Gaussian. Beyond its edges the image is extended by its edge pixels.

    Args:
        strength: Standard deviation of the Gaussian, in eighths of the image's shorter side. At 28 x 28, strength 1 is
            3.5 pixels.

    Examples:
        >>> Blur(0.5)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        sigma = self.strength * min(images.shape[2:]) / 8
        if sigma == 0:
            return images
        radius = math.ceil(4 * sigma)
        offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
        kernel = torch.exp(-0.5 * (offsets / sigma).square())
        kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
        channels = images.flatten(0, 1)[:, None]  # (NC, 1, H, W)
        padded = F.pad(channels, (radius, radius, radius, radius), mode="replicate")
        blurred = F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3))
        return blurred.view_as(images).clamp(0, 1)  # rounding errors may leave [0, 1]


class Masking(Corruption):
    """Sets pixels, all their channels together, to 0 (Vincent et al. 2008, ICML).

    Args:
        strength: Probability that a pixel is masked, at most 1.

    Examples:
        >>> Masking(1.0)(torch.ones(1, 1, 2, 2)).max()
        tensor(0.)
    """

    max_strength = 1.0

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        pixels = torch.empty_like(images[:, :1]).uniform_(generator=generator)  # in [0, 1)
        return images * (pixels >= self.strength)


class ColoredBlob(Corruption):
    """Paints one opaque disc, which lies within the image and whose edge is soft over one pixel.

    Its colour is random but bright: the largest channel is drawn from [0.5, 1]. The disc stands for defects such as a
    scratch, red eyes or a printed date.

    Args:
        strength: Diameter of the disc relative to the image's shorter side, at most 1.

    Examples:
        >>> ColoredBlob(0.5)(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
    """

    max_strength = 1.0

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        n, channels, height, width = images.shape
        draws = torch.empty(n, channels + 3, device=images.device, dtype=images.dtype).uniform_(generator=generator)
        colour, brightness, position = draws.split([channels, 1, 2], dim=1)
        colour = colour / colour.amax(dim=1, keepdim=True).clamp(min=1e-6) * (0.5 + 0.5 * brightness)  # (N, C)
        radius = self.strength * min(height, width) / 2
        sides = images.new_tensor([height, width])
        centre = radius + position * (sides - 2 * radius)  # (N, 2); pixel i covers [i, i + 1]
        rows = torch.arange(height, device=images.device) + 0.5 - centre[:, :1]  # (N, H)
        columns = torch.arange(width, device=images.device) + 0.5 - centre[:, 1:]  # (N, W)
        distance = torch.hypot(rows[:, :, None], columns[:, None, :])[:, None]  # (N, 1, H, W)
        alpha = (radius - distance + 0.5).clamp(0, 1) if radius else torch.zeros_like(distance)
        return alpha * colour[:, :, None, None] + (1 - alpha) * images
