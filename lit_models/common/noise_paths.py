"""Paths of noise levels in continuous time, to be injected into a model: alpha_t and sigma_t for real t in [0, 1]."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lit_models.common.component import Component


class NoisePath(Component, ABC):
    """Noise levels of x_t = alpha_t x_0 + sigma_t e from the image x_0 at t = 0 to noise at t = 1.

    Functions of a time or a ratio take and return tensors of any shape and keep their type.
    """

    @abstractmethod
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t."""

    @abstractmethod
    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives of alpha_t and sigma_t by t."""

    @abstractmethod
    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        """The time t with sigma_t / alpha_t = `ratio`."""

    def condition(self, t: Tensor) -> Tensor:
        """The number that tells a network the noise level at time t."""
        return t

    def times(self, count: int) -> list[float]:
        """Times of `count` noise levels of a sampler, descending from 1, before the image."""
        return [k / count for k in range(count, 0, -1)]


class LinearPath(NoisePath):
    """alpha_t = 1 - t, sigma_t = t, so that x_t moves from image to noise with the constant velocity e - x_0.

    Rectified flow (Liu et al. 2022, arXiv 2209.03003, eq. 1), the optimal-transport path of Lipman et al. 2022, arXiv
    2210.02747, section 4.1, with sigma_min = 0. Both papers count time from noise to image.

    Examples:
        >>> LinearPath().alpha_sigma(torch.tensor(0.25))
        (tensor(0.7500), tensor(0.2500))
    """

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        return ratio / (1 + ratio)


class VariancePreservingPath(NoisePath):
    """alpha_t = cos(pi t / 2), sigma_t = sin(pi t / 2), so that alpha_t^2 + sigma_t^2 = 1.

    The trigonometric path of Albergo and Vanden-Eijnden 2022, arXiv 2209.15571, section 2; Nichol and Dhariwal's cosine
    schedule without its offset.

    Examples:
        >>> VariancePreservingPath().time_of_ratio(torch.tensor(1.0))
        tensor(0.5000)
    """

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return (math.pi / 2 * (1 - t)).sin(), (math.pi / 2 * t).sin()  # a sine is exactly 0 at 0

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = math.pi / 2 * t
        return -math.pi / 2 * angle.sin(), math.pi / 2 * angle.cos()

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        return 2 / math.pi * ratio.atan()


class KarrasPath(NoisePath):
    """alpha_t = 1, sigma_t = (sigma_min^(1/rho) + t (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho.

    Karras et al. 2022, arXiv 2206.00364, eq. 5: even steps of t are the steps of their samplers. A network is told
    log(sigma_t) / 4 (their table 1). The noise level at t = 0 is sigma_min; the step from there to the image is the
    sampler's last.

    Args:
        sigma_min: Lowest noise level, for pixels in [-1, 1].
        sigma_max: Highest noise level, for pixels in [-1, 1].
        rho: Curvature: the larger, the more of the steps have little noise.

    Raises:
        ValueError: not 0 < sigma_min < sigma_max, or `rho` is below 1.

    Examples:
        >>> KarrasPath(rho=1).alpha_sigma(torch.tensor(1.0))
        (tensor(1.), tensor(80.))
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> None:
        if not 0 < sigma_min < sigma_max < math.inf or not 1 <= rho < math.inf:
            raise ValueError(
                f"sigma_min is {sigma_min}, sigma_max {sigma_max} and rho {rho}; they need 0 < sigma_min < sigma_max"
                " and rho at least 1"
            )
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max
        self.rho = rho

    @property
    def _root(self) -> tuple[float, float]:
        """sigma_min^(1/rho), and how far sigma_max^(1/rho) is above it."""
        low = self.sigma_min ** (1 / self.rho)
        return low, self.sigma_max ** (1 / self.rho) - low

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        low, width = self._root
        return torch.ones_like(t), (low + t * width) ** self.rho

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        low, width = self._root
        return torch.zeros_like(t), self.rho * width * (low + t * width) ** (self.rho - 1)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        low, width = self._root
        return (ratio ** (1 / self.rho) - low) / width

    def condition(self, t: Tensor) -> Tensor:
        return self.alpha_sigma(t)[1].log() / 4

    def times(self, count: int) -> list[float]:
        return [1.0] if count == 1 else [k / (count - 1) for k in range(count - 1, -1, -1)]
