"""How much noise each step of a diffusion adds, to be injected into a model."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lit_models.common.component import Component


class NoiseSchedule(Component, ABC):
    """Levels t = 0 ... T of noisy images x_t = a_t x_0 + s_t e, e standard normal; level 0 is the image itself."""

    @abstractmethod
    def levels(self, steps: int) -> tuple[Tensor, Tensor]:
        """a_t and s_t for t = 0 ... T: float64, T + 1 each, a_0 = 1 and s_0 = 0."""


class LinearSchedule(NoiseSchedule):
    """beta_t grows linearly, a_t^2 = prod (1 - beta_s), s_t^2 = 1 - a_t^2 (Ho et al. 2020, 2006.11239, section 4).

    Args:
        first, last: beta_1 and beta_T of a thousand steps; of T steps they are 1000 / T as large, so that a_T is alike.

    Raises:
        ValueError: not 0 < first <= last < 1; from `levels`, too few steps for them.
    """

    def __init__(self, first: float = 1e-4, last: float = 0.02) -> None:
        if not 0 < first <= last < 1:
            raise ValueError(f"first is {first} and last {last}; they must be 0 < first <= last < 1")
        self.first = first
        self.last = last

    def levels(self, steps: int) -> tuple[Tensor, Tensor]:
        scale = 1000 / steps
        if scale * self.last >= 1:
            least = math.floor(1000 * self.last) + 1
            raise ValueError(f"a linear schedule up to {self.last} needs at least {least} steps, not {steps}")
        betas = torch.linspace(scale * self.first, scale * self.last, steps, dtype=torch.float64)
        return variance_preserving(betas)


class CosineSchedule(NoiseSchedule):
    """a_t^2 = f(t) / f(0), f(t) = cos((t/T + s) / (1 + s) pi/2)^2, beta_t <= 0.999 (Nichol and Dhariwal 2021, arXiv
    2102.09672, eq. 17): noise comes more slowly at first and last than in a linear schedule.

    Args:
        offset: s, which keeps beta_1 from being tiny.

    Raises:
        ValueError: it is negative.
    """

    def __init__(self, offset: float = 0.008) -> None:
        if not offset >= 0:
            raise ValueError(f"offset is {offset}; it may not be negative")
        self.offset = offset

    def levels(self, steps: int) -> tuple[Tensor, Tensor]:
        times = torch.arange(steps + 1, dtype=torch.float64) / steps
        f = ((times + self.offset) / (1 + self.offset) * math.pi / 2).cos().square()
        return variance_preserving((1 - f[1:] / f[:-1]).clamp(max=0.999))


class GeometricSchedule(NoiseSchedule):
    """a_t = 1, s_t from `smallest` to `largest` in equal ratios (Song and Ermon 2019, arXiv 1907.05600, section 4).

    Args:
        smallest, largest: s_1 and s_T, for pixels in [-1, 1].

    Raises:
        ValueError: not 0 < smallest < largest.
    """

    def __init__(self, smallest: float = 0.02, largest: float = 10.0) -> None:
        if not 0 < smallest < largest < math.inf:
            raise ValueError(f"smallest is {smallest} and largest {largest}; they must be 0 < smallest < largest")
        self.smallest = smallest
        self.largest = largest

    def levels(self, steps: int) -> tuple[Tensor, Tensor]:
        noise = torch.logspace(math.log10(self.smallest), math.log10(self.largest), steps, dtype=torch.float64)
        return torch.ones(steps + 1, dtype=torch.float64), torch.cat([noise.new_zeros(1), noise])


def variance_preserving(betas: Tensor) -> tuple[Tensor, Tensor]:
    """Levels of q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I).

    Args:
        betas: float64, T, in (0, 1).
    """
    log_kept = torch.cat([betas.new_zeros(1), torch.log1p(-betas).cumsum(0)])
    return (log_kept / 2).exp(), (-torch.expm1(log_kept)).sqrt()
