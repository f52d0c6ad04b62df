"""The noising process of discrete timesteps, and the likelihood of 8-bit images that diffusion models use."""

import math

import torch
from torch import Tensor

from lit_models.common.noise_process import Level, NoiseProcess, ratio_of, spread_uniform
from lit_models.common.noise_schedules import NoiseSchedule

FAR = 1e4
"""Stands for infinitely many standard deviations, whose gradient would be undefined."""


class Diffusion(NoiseProcess):
    """Noising process q(x_t | x_0) = N(a_t x_0, s_t^2 I) at timesteps t = 1 ... T, for x_0 in [-1, 1].

    The time of timestep t is t / T. Its velocity is that of x_t / sqrt(a_t^2 + s_t^2), which moves on a circle from x_0
    to e, by the angle on it: (-s_t x_0 + a_t e) / sqrt(a_t^2 + s_t^2) (Salimans and Ho 2022, arXiv 2202.00512).

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

    @property
    def device(self) -> torch.device:
        return self.signal.device

    def at(self, t: Tensor) -> Level[Tensor]:
        """Noise levels at timesteps t, int64, N."""
        a, s = (table[t].view(-1, 1, 1, 1) for table in (self.signal, self.noise))
        norm = (a.square() + s.square()).sqrt()
        return Level((t / self.num_steps).view(-1, 1, 1, 1), a, s, -s / norm, a / norm)

    def batch_time(self, level: Level[float], n: int) -> Tensor:
        return torch.full((n,), round(level.time * self.num_steps), device=self.device)

    def condition(self, t: Tensor) -> Tensor:
        return t / self.num_steps

    def level(self, t: int) -> Level[float]:
        """The noise level at one timestep."""
        a, s = self.a[t], self.s[t]
        norm = math.hypot(a, s)
        return Level(t / self.num_steps, a, s, -s / norm, a / norm)

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

    def levels(self, count: int | None) -> list[Level[float]]:
        return [self.level(t) for t in self.timesteps(count)]

    def level_of_ratio(self, ratio: float) -> Level[float]:
        above = [abs(math.log(self.s[t] / self.a[t] / ratio)) for t in range(1, self.num_steps + 1)]
        return self.level(1 + above.index(min(above)))

    @property
    def ratio_range(self) -> tuple[float, float]:
        return ratio_of(self.level(1)), ratio_of(self.level(self.num_steps))

    def draw_timesteps(self, n: int, first: int = 1) -> Tensor:
        """Draws n timesteps from `first` to T, int64, each uniform and together evenly spread."""
        count = self.num_steps - first + 1
        return first + (spread_uniform(n, self.device) * count).long().clamp(max=count - 1)

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
