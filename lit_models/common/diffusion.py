"""Mathematics of the noising process that diffusion and score models share."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lit_models.common.noise_schedules import NoiseSchedule

Predictor = Callable[[Tensor, int], Tensor]
"""Predicts the noise e in x_t: x_t, N x C x H x W, and t, the same for all images -> N x C x H x W."""


FAR = 1e4
"""Stands for infinitely many standard deviations, whose gradient would be undefined."""


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0) = N(noisy_weight x_t + clean_weight x_0, variance I), for s < t."""

    noisy_weight: float
    clean_weight: float
    variance: float


class Diffusion(nn.Module):
    """Noising process q(x_t | x_0) = N(a_t x_0, s_t^2 I) at timesteps t = 1 ... T, for x_0 in [-1, 1].

    For any schedule and 0 < s < t, x_t given x_s is N(r x_s, (s_t^2 - r^2 s_s^2) I) with r = a_t / a_s (Kingma et al.
    2021, arXiv 2107.00630, appendix A). The score of q(x_t) is -e / s_t, where e is the expected noise in x_t.

    Args:
        schedule: Gives a_t and s_t.
        num_steps: Number T of timesteps.

    Raises:
        ValueError: T is below 1, or the schedule needs more timesteps.
    """

    signal: Tensor
    """a_t, t = 0 ... T."""
    noise: Tensor
    """s_t, t = 0 ... T."""
    bound_weight: Tensor
    """Weight of the squared error of the noise in the variational bound, t = 0 ... T."""

    def __init__(self, schedule: NoiseSchedule, num_steps: int) -> None:
        super().__init__()
        if num_steps < 1:
            raise ValueError(f"there are {num_steps} timesteps; there must be at least 1")
        signal, noise = schedule.levels(num_steps)
        self.num_steps = num_steps
        self.a = signal.tolist()
        self.s = noise.tolist()
        snr = (signal / noise).square()
        weight = torch.zeros(num_steps + 1, dtype=torch.float64)
        weight[2:] = (snr[1:-1] / snr[2:] - 1) / 2
        self.register_buffer("signal", signal.float(), persistent=False)
        self.register_buffer("noise", noise.float(), persistent=False)
        self.register_buffer("bound_weight", weight.float(), persistent=False)

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Computes x_t from x_0 and noise, N x C x H x W each, at timesteps t, N."""
        a, s = (_column(table[t], clean) for table in (self.signal, self.noise))
        return a * clean + s * noise

    def scale_input(self, noisy: Tensor, t: Tensor) -> Tensor:
        """Computes the input of a network, x_t / sqrt(a_t^2 + s_t^2), N x C x H x W, at timesteps t, N."""
        return noisy / _column((self.signal[t].square() + self.noise[t].square()).sqrt(), noisy)

    def clean_from_noise(self, noisy: Tensor, noise: Tensor, t: int) -> Tensor:
        """Computes x_0 from x_t and the noise in it."""
        return (noisy - self.s[t] * noise) / self.a[t]

    def noise_from_clean(self, noisy: Tensor, clean: Tensor, t: int) -> Tensor:
        """Computes the noise in x_t from x_t and x_0."""
        return (noisy - self.a[t] * clean) / self.s[t]

    def posterior(self, t: int, s: int) -> Posterior:
        """q(x_s | x_t, x_0), for s < t. For s = t - 1 it is eq. 6 and 7 of Ho et al. 2020, arXiv 2006.11239."""
        ratio = self.a[t] / self.a[s]
        added = self.s[t] ** 2 - (ratio * self.s[s]) ** 2
        kept = (self.s[s] / self.s[t]) ** 2
        return Posterior(ratio * kept, self.a[s] * added / self.s[t] ** 2, added * kept)

    def timesteps(self, count: int | None) -> list[int]:
        """Evenly spaced timesteps of a sampler, descending from T, followed by 0.

        Args:
            count: Number of timesteps without the 0; None for all.

        Raises:
            ValueError: `count` is above T.
        """
        if count is not None and count > self.num_steps:
            raise ValueError(f"a sampler of {count} steps needs as many timesteps, and the model has {self.num_steps}")
        count = count or self.num_steps
        return [round(self.num_steps * k / count) for k in range(count, -1, -1)]

    def sample_noise(self, n: int, shape: tuple[int, ...]) -> Tensor:
        """Draws x_T from N(0, (a_T^2 + s_T^2) I), which approximates q(x_T): n x C x H x W."""
        spread = math.hypot(self.a[-1], self.s[-1])
        return spread * torch.randn(n, *shape, device=self.signal.device, dtype=self.signal.dtype)

    def prior_kl(self, clean: Tensor) -> Tensor:
        """KL(q(x_T | x_0) || N(0, I)) in nats, N, for a variance-preserving schedule."""
        a, s = self.a[-1], self.s[-1]
        each = 0.5 * (s**2 - 1 - 2 * math.log(s) + a**2 * clean.float().square())
        return each.flatten(1).sum(dim=1)


def discretised_log_likelihood(clean: Tensor, mean: Tensor, std: float) -> Tensor:
    """Log-probability of 8-bit images under N(mean, std^2), integrated over the bin of each pixel's value: nats, N.

    The bins of the smallest and the largest value are unbounded. Ho et al. 2020, arXiv 2006.11239, eq. 13.

    Args:
        clean: Images of 256 equally spaced values in [-1, 1], N x C x H x W.
        mean: Mean of each pixel, N x C x H x W.
        std: Standard deviation of all pixels.
    """
    clean, mean = clean.float(), mean.float()
    above, below = ((clean - mean + side / 255) / std for side in (1, -1))
    above = torch.where(clean > 0.999, FAR, above)
    below = torch.where(clean < -0.999, -FAR, below)
    flip = above + below > 0  # the mirrored bin has the same mass, which is then not a difference of numbers near 1
    low, high = torch.where(flip, -above, below), torch.where(flip, -below, above)
    return _log_mass(low, high).flatten(1).sum(dim=1)


def _log_mass(low: Tensor, high: Tensor) -> Tensor:
    """log(Phi(high) - Phi(low)), low < high."""
    log_high, log_low = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    return log_high + torch.log1p(-(log_low - log_high).exp().clamp(max=1 - 1e-7))


def _column(values: Tensor, images: Tensor) -> Tensor:
    """Reshapes N values to broadcast over N images."""
    return values.view(-1, *[1] * (images.ndim - 1))
