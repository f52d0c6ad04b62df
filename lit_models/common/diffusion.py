"""The mathematics of noisy images, which diffusion and score models share."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lit_models.common.noise_schedules import NoiseSchedule

Predictor = Callable[[Tensor, int], Tensor]
"""The noise e that a network sees in x_t: N x C x H x W and t, the same for all images, -> N x C x H x W."""


FAR = 1e4
"""Standard deviations beyond which there is no mass, in place of infinitely many, of which there is no gradient."""


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0) = N(of_noisy x_t + of_clean x_0, variance I), for s < t."""

    of_noisy: float
    of_clean: float
    variance: float


class Diffusion(nn.Module):
    """q(x_t | x_0) = N(a_t x_0, s_t^2 I), t = 1 ... T, x_0 in [-1, 1].

    With 0 < s < t, x_t given x_s is N(r x_s, (s_t^2 - r^2 s_s^2) I), r = a_t / a_s (Kingma et al. 2021, arXiv
    2107.00630, appendix A), whatever the schedule. The score of q(x_t) is -e / s_t, e the expected noise in x_t.

    Args:
        schedule: the levels.
        steps: T.

    Raises:
        ValueError: less than one step, or from the schedule.
    """

    signal: Tensor
    noise: Tensor
    bound_weight: Tensor

    def __init__(self, schedule: NoiseSchedule, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"there are {steps} noise levels; there must be at least 1")
        signal, noise = schedule.levels(steps)
        self.steps = steps
        self.a = signal.tolist()
        self.s = noise.tolist()
        snr = (signal / noise).square()
        weight = torch.zeros(steps + 1, dtype=torch.float64)
        weight[2:] = (snr[1:-1] / snr[2:] - 1) / 2
        self.register_buffer("signal", signal.float(), persistent=False)
        self.register_buffer("noise", noise.float(), persistent=False)
        self.register_buffer("bound_weight", weight.float(), persistent=False)

    def noisy(self, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of x_0, N x C x H x W, for steps t, N."""
        a, s = (_column(table[t], clean) for table in (self.signal, self.noise))
        return a * clean + s * noise

    def scale(self, noisy: Tensor, t: Tensor) -> Tensor:
        """x_t / sqrt(a_t^2 + s_t^2), as a network takes it; what already keeps the variance is left as it is."""
        return noisy / _column((self.signal[t].square() + self.noise[t].square()).sqrt(), noisy)

    def clean(self, noisy: Tensor, noise: Tensor, t: int) -> Tensor:
        """x_0 of x_t and the noise in it."""
        return (noisy - self.s[t] * noise) / self.a[t]

    def noise_in(self, noisy: Tensor, clean: Tensor, t: int) -> Tensor:
        """The noise in x_t, given x_0."""
        return (noisy - self.a[t] * clean) / self.s[t]

    def posterior(self, t: int, s: int) -> Posterior:
        """q(x_s | x_t, x_0). For s = t - 1 it is eq. 6 and 7 of Ho et al. 2020, arXiv 2006.11239."""
        ratio = self.a[t] / self.a[s]
        added = self.s[t] ** 2 - (ratio * self.s[s]) ** 2
        kept = (self.s[s] / self.s[t]) ** 2
        return Posterior(ratio * kept, self.a[s] * added / self.s[t] ** 2, added * kept)

    def times(self, count: int | None) -> list[int]:
        """So many of the steps T ... 1, evenly spread and T among them, and 0 at last; None: all.

        Raises:
            ValueError: more than there are.
        """
        if count is not None and count > self.steps:
            raise ValueError(f"a sampler of {count} steps cannot go through {self.steps} noise levels")
        count = count or self.steps
        return [round(self.steps * k / count) for k in range(count, -1, -1)]

    def start(self, n: int, shape: tuple[int, ...]) -> Tensor:
        """Draws of N(0, (a_T^2 + s_T^2) I), which q(x_T) is nearly: n x C x H x W."""
        spread = math.hypot(self.a[-1], self.s[-1])
        return spread * torch.randn(n, *shape, device=self.signal.device, dtype=self.signal.dtype)

    def prior_divergence(self, clean: Tensor) -> Tensor:
        """KL(q(x_T | x_0) || N(0, I)) in nats, N, for a schedule that keeps the variance."""
        a, s = self.a[-1], self.s[-1]
        each = 0.5 * (s**2 - 1 - 2 * math.log(s) + a**2 * clean.float().square())
        return each.flatten(1).sum(dim=1)


def discretised_log_likelihood(clean: Tensor, mean: Tensor, std: float) -> Tensor:
    """log of the mass that N(mean, std^2) has in the bin of each 8-bit pixel, the outer bins open: nats, N.

    Ho et al. 2020, arXiv 2006.11239, eq. 13.

    Args:
        clean: x_0 in [-1, 1] of 256 equally spaced values, N x C x H x W.
        mean: as large.
    """
    clean, mean = clean.float(), mean.float()
    above, below = ((clean - mean + side / 255) / std for side in (1, -1))
    above = torch.where(clean > 0.999, FAR, above)
    below = torch.where(clean < -0.999, -FAR, below)
    right = above + below > 0  # there the same mass lies left of 0, where it is no difference of numbers near 1
    low, high = torch.where(right, -above, below), torch.where(right, -below, above)
    return _log_mass(low, high).flatten(1).sum(dim=1)


def _log_mass(low: Tensor, high: Tensor) -> Tensor:
    """log(Phi(high) - Phi(low)), low < high."""
    log_high, log_low = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    return log_high + torch.log1p(-(log_low - log_high).exp().clamp(max=1 - 1e-7))


def _column(values: Tensor, images: Tensor) -> Tensor:
    """N values beside N images."""
    return values.view(-1, *[1] * (images.ndim - 1))
