"""The description of noise that all models from noise share: x_t = alpha_t x_0 + sigma_t e at a noise level."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from lit_models.common.noise_paths import NoisePath

Number = TypeVar("Number", float, Tensor)


class Level(NamedTuple, Generic[Number]):
    """Noise level of x_t = alpha x_0 + sigma e, with x_0 the image and e standard normal.

    Its entries are numbers, one level for all images, or tensors, N x 1 x 1 x 1, a level for each image.
    """

    time: Number
    """Time t in [0, 1]; 0 is the image."""
    alpha: Number
    sigma: Number
    alpha_rate: Number
    """Derivative of alpha, which defines what a network that predicts the velocity predicts."""
    sigma_rate: Number
    """Derivative of sigma."""


def ratio_of(level: Level[float]) -> float:
    """sigma / alpha; infinite for noise alone.

    Examples:
        >>> ratio_of(Level(1.0, 0.0, 1.0, -1.0, 1.0))
        inf
    """
    return level.sigma / level.alpha if level.alpha else math.inf


class Denoised(NamedTuple):
    """What a model predicts at a noise level: N x C x H x W each."""

    clean: Tensor
    """The image x_0."""
    noise: Tensor
    """The noise e."""


Denoiser = Callable[[Tensor, Level[float]], Denoised]
"""Predicts image and noise from x_t, N x C x H x W, and its noise level, the same for all images."""


class Posterior(NamedTuple):
    """q(x_s | x_t, x_0) = N(noisy_weight x_t + clean_weight x_0, variance I), for s < t."""

    noisy_weight: float
    clean_weight: float
    variance: float


def posterior(high: Level[float], low: Level[float]) -> Posterior:
    """q(x_s | x_t, x_0) for the noise levels `high` of x_t and `low` of x_s.

    x_t given x_s is N(r x_s, (sigma_t^2 - r^2 sigma_s^2) I) with r = alpha_t / alpha_s (Kingma et al. 2021, arXiv
    2107.00630, appendix A). For neighbouring timesteps it is eq. 6 and 7 of Ho et al. 2020, arXiv 2006.11239.

    Examples:
        >>> posterior(Level(1.0, 0.0, 1.0, -1.0, 1.0), Level(0.0, 1.0, 0.0, -1.0, 1.0))
        Posterior(noisy_weight=0.0, clean_weight=1.0, variance=0.0)
    """
    ratio = high.alpha / low.alpha
    added = high.sigma**2 - (ratio * low.sigma) ** 2
    kept = (low.sigma / high.sigma) ** 2
    return Posterior(ratio * kept, low.alpha * added / high.sigma**2, added * kept)


class NoiseProcess(nn.Module, ABC):
    """Noising process q(x_t | x_0) = N(alpha_t x_0, sigma_t^2 I), for x_0 in [-1, 1].

    The score of q(x_t) is -e / sigma_t, where e is the expected noise in x_t. Batches of times are tensors in the form
    that the process counts them in: timesteps 1 ... T, or real numbers.
    """

    data_std: float | None = 1.0
    """Standard deviation of x_0 by which `scale_input` makes inputs of unit variance. None: inputs stay as they are."""

    @abstractmethod
    def at(self, t: Tensor) -> Level[Tensor]:
        """Noise levels at times t, N: tensors of N x 1 x 1 x 1, float32."""

    @abstractmethod
    def batch_time(self, level: Level[float], n: int) -> Tensor:
        """The time of a noise level for n images, N, in the form that `at` takes."""

    @abstractmethod
    def condition(self, t: Tensor) -> Tensor:
        """The number that tells a network the noise level at times t: N -> N."""

    @abstractmethod
    def levels(self, count: int | None) -> list[Level[float]]:
        """Noise levels of a sampler, descending from the highest, followed by that of the image, with sigma = 0.

        Args:
            count: Number of levels without the last one; None for all.

        Raises:
            ValueError: the process has fewer levels, or has no end of levels and `count` is None.
        """

    @abstractmethod
    def level_of_ratio(self, ratio: float) -> Level[float]:
        """The noise level with sigma / alpha = `ratio`, or the nearest one."""

    @property
    @abstractmethod
    def ratio_range(self) -> tuple[float, float]:
        """sigma / alpha of the lowest noise level, which may be 0, and of the highest, which may be infinite."""

    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Computes x_t from x_0 and noise, N x C x H x W each, at times t, N."""
        level = self.at(t)
        return level.alpha * clean + level.sigma * noise

    def scale_input(self, noisy: Tensor, t: Tensor) -> Tensor:
        """Scales x_t, N x C x H x W, at times t, N, to unit variance, as the input of a network."""
        if self.data_std is None:
            return noisy
        level = self.at(t)
        return noisy / ((self.data_std * level.alpha).square() + level.sigma.square()).sqrt()

    def sample_noise(self, n: int, shape: tuple[int, ...]) -> Tensor:
        """Draws x_t at the highest noise level from N(0, (alpha^2 + sigma^2) I): n x C x H x W, float32."""
        highest = self.levels(1)[0]
        spread = (highest.alpha**2 + highest.sigma**2) ** 0.5
        return spread * torch.randn(n, *shape, device=self.device)

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Device of the process."""


class ContinuousProcess(NoiseProcess):
    """Noising process along a path of noise levels at real times t in [0, 1].

    Args:
        path: Gives alpha and sigma at a time.
        data_std: Standard deviation of x_0 by which inputs of a network are scaled; None to leave them as they are.
    """

    _on_device: Tensor

    def __init__(self, path: NoisePath, data_std: float | None = None) -> None:
        super().__init__()
        self.path = path
        self.data_std = data_std
        self.register_buffer("_on_device", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        return self._on_device.device

    def at(self, t: Tensor) -> Level[Tensor]:
        numbers = (t, *self.path.alpha_sigma(t), *self.path.rates(t))
        return Level(*(number.view(-1, 1, 1, 1) for number in numbers))

    def batch_time(self, level: Level[float], n: int) -> Tensor:
        return torch.full((n,), level.time, device=self.device)

    def condition(self, t: Tensor) -> Tensor:
        return self.path.condition(t)

    def level(self, time: float) -> Level[float]:
        """The noise level at a time in [0, 1]."""
        t = torch.tensor(time, dtype=torch.float64)
        alpha, sigma, alpha_rate, sigma_rate = (x.item() for x in (*self.path.alpha_sigma(t), *self.path.rates(t)))
        return Level(time, alpha, sigma, alpha_rate, sigma_rate)

    def input_std(self, level: Level[float]) -> tuple[float, float]:
        """Deviation of x_t by which inputs of a network are scaled, and its derivative by time; 1 if they are not."""
        if self.data_std is None:
            return 1.0, 0.0
        std = math.hypot(self.data_std * level.alpha, level.sigma)
        return std, (self.data_std**2 * level.alpha * level.alpha_rate + level.sigma * level.sigma_rate) / std

    def levels(self, count: int | None) -> list[Level[float]]:
        if count is None:
            raise ValueError("a model of continuous time has no end of noise levels: give the sampler's steps")
        clean = self.level(0.0)._replace(alpha=1.0, sigma=0.0)
        return [*(self.level(time) for time in self.path.times(count)), clean]

    def level_of_ratio(self, ratio: float) -> Level[float]:
        return self.level(self.path.time_of_ratio(torch.tensor(ratio, dtype=torch.float64)).item())

    @property
    def ratio_range(self) -> tuple[float, float]:
        return ratio_of(self.level(0.0)), ratio_of(self.level(1.0))


def spread_uniform(n: int, device: torch.device) -> Tensor:
    """Draws n numbers in [0, 1), each uniform and together evenly spread, in random order.

    Kingma et al. 2021, arXiv 2107.00630, appendix I.1.
    """
    position = torch.rand((), device=device) + torch.arange(n, device=device) / n
    return position.frac()[torch.randperm(n, device=device)]
