"""Noise schedules of diffusion and score models, to be injected into a model."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lit_models.common.component import Component


class NoiseSchedule(Component, ABC):
    """Noise levels a_t, s_t of x_t = a_t x_0 + s_t e at timesteps t = 0 ... T, e standard normal; x_0 is the image."""

    @abstractmethod
    def levels(self, num_steps: int) -> tuple[Tensor, Tensor]:
        """a_t and s_t for t = 0 ... T, T = num_steps: float64, T + 1 values each, a_0 = 1 and s_0 = 0."""


class LinearSchedule(NoiseSchedule):
    """Linear beta_t; a_t^2 = prod_{s <= t} (1 - beta_s), s_t^2 = 1 - a_t^2.

    Ho et al. 2020, arXiv 2006.11239, section 4. With T timesteps all beta_t are multiplied by
    1000 / T, so that a_T hardly depends on T.

    Args:
        beta_start: beta_1 for T = 1000.
        beta_end: beta_T for T = 1000.

    Raises:
        ValueError: not 0 < beta_start <= beta_end < 1; from `levels`, T is too small.

    Examples:
        >>> LinearSchedule().levels(1000)[0][0]
        tensor(1., dtype=torch.float64)
    """

    def __init__(self, beta_start: float = 1e-4, beta_end: float = 0.02) -> None:
        if not 0 < beta_start <= beta_end < 1:
            raise ValueError(
                f"beta_start is {beta_start} and beta_end {beta_end}; they need 0 < beta_start <= beta_end < 1"
            )
        self.beta_start = beta_start
        self.beta_end = beta_end

    def levels(self, num_steps: int) -> tuple[Tensor, Tensor]:
        scale = 1000 / num_steps
        if scale * self.beta_end >= 1:
            least = math.floor(1000 * self.beta_end) + 1
            raise ValueError(f"LinearSchedule up to {self.beta_end} needs at least {least} timesteps, not {num_steps}")
        betas = torch.linspace(scale * self.beta_start, scale * self.beta_end, num_steps, dtype=torch.float64)
        return variance_preserving(betas)


class CosineSchedule(NoiseSchedule):
    """a_t^2 = f(t) / f(0), f(t) = cos((t/T + s) / (1 + s) pi/2)^2, beta_t <= 0.999, s_t^2 = 1 - a_t^2.

    Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17. The noise grows more slowly at both ends than in a linear
    schedule.

    Args:
        offset: Offset s, which keeps beta_1 from being tiny.

    Raises:
        ValueError: `offset` is negative.

    Examples:
        >>> CosineSchedule().levels(100)[0].shape
        torch.Size([101])
    """

    def __init__(self, offset: float = 0.008) -> None:
        if not offset >= 0:
            raise ValueError(f"offset is {offset}; it must be at least 0")
        self.offset = offset

    def levels(self, num_steps: int) -> tuple[Tensor, Tensor]:
        times = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
        f = ((times + self.offset) / (1 + self.offset) * math.pi / 2).cos().square()
        return variance_preserving((1 - f[1:] / f[:-1]).clamp(max=0.999))


class GeometricSchedule(NoiseSchedule):
    """a_t = 1 and s_t, a geometric sequence from s_1 to s_T (Song and Ermon 2019, arXiv 1907.05600, section 4).

    Args:
        sigma_min: Smallest noise level s_1, for pixels in [-1, 1].
        sigma_max: Largest noise level s_T, for pixels in [-1, 1].

    Raises:
        ValueError: not 0 < sigma_min < sigma_max.

    Examples:
        >>> GeometricSchedule().levels(50)[1].max()
        tensor(10., dtype=torch.float64)
    """

    def __init__(self, sigma_min: float = 0.02, sigma_max: float = 10.0) -> None:
        if not 0 < sigma_min < sigma_max < math.inf:
            raise ValueError(f"sigma_min is {sigma_min} and sigma_max {sigma_max}; they need 0 < sigma_min < sigma_max")
        self.sigma_min = sigma_min
        self.sigma_max = sigma_max

    def levels(self, num_steps: int) -> tuple[Tensor, Tensor]:
        noise = torch.logspace(math.log10(self.sigma_min), math.log10(self.sigma_max), num_steps, dtype=torch.float64)
        return torch.ones(num_steps + 1, dtype=torch.float64), torch.cat([noise.new_zeros(1), noise])


def variance_preserving(betas: Tensor) -> tuple[Tensor, Tensor]:
    """a_t and s_t of q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I), t = 0 ... T.

    Args:
        betas: beta_t in (0, 1), t = 1 ... T: float64, T.
    """
    log_kept = torch.cat([betas.new_zeros(1), torch.log1p(-betas).cumsum(0)])
    return (log_kept / 2).exp(), (-torch.expm1(log_kept)).sqrt()
