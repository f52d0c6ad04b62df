"""Distributions of the times at which a model of continuous time is trained, to be injected into it."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lit_models.common.component import Component
from lit_models.common.noise_process import ContinuousProcess, spread_uniform


class Times(Component, ABC):
    """Distribution of times t in [0, 1], from the image, t = 0, to noise."""

    @abstractmethod
    def draw(self, n: int, process: ContinuousProcess) -> Tensor:
        """Draws n times, together evenly spread: N, float32, on the device of the process."""


class UniformTimes(Times):
    """t uniform in [0, 1].

    Examples:
        >>> from lit_models.common.noise_paths import LinearPath
        >>> UniformTimes().draw(3, ContinuousProcess(LinearPath())).shape
        torch.Size([3])
    """

    def draw(self, n: int, process: ContinuousProcess) -> Tensor:
        return spread_uniform(n, process.device)


class LogitNormalTimes(Times):
    """t = 1 / (1 + exp(-z)), z ~ N(mean, std^2): more of the times are in the middle of the path.

    Esser et al. 2024, arXiv 2403.03206, section 3.1. Their time runs in the same direction.

    Args:
        mean: Mean of z. Above 0, more of the times have much noise.
        std: Standard deviation of z.

    Raises:
        ValueError: `std` is not positive, or `mean` not finite.

    Examples:
        >>> from lit_models.common.noise_paths import LinearPath
        >>> LogitNormalTimes(mean=-0.5).draw(3, ContinuousProcess(LinearPath())).shape
        torch.Size([3])
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise ValueError(f"mean is {mean} and std {std}; they must be finite, and std positive")
        self.mean = mean
        self.std = std

    def draw(self, n: int, process: ContinuousProcess) -> Tensor:
        z = torch.special.ndtri(spread_uniform(n, process.device))
        return (self.mean + self.std * z).sigmoid()


class LogNormalTimes(Times):
    """log(sigma_t / alpha_t) ~ N(mean, std^2), within the noise levels of the path.

    Karras et al. 2022, arXiv 2206.00364, table 1, for alpha = 1 and pixels in [-1, 1]: most of the times have as much
    noise as is needed to learn something from, neither too little to be seen nor too much to see the image.

    Args:
        mean: Mean of log(sigma_t / alpha_t).
        std: Standard deviation of log(sigma_t / alpha_t).

    Raises:
        ValueError: `std` is not positive, or `mean` not finite.

    Examples:
        >>> from lit_models.common.noise_paths import KarrasPath
        >>> LogNormalTimes().draw(3, ContinuousProcess(KarrasPath())).shape
        torch.Size([3])
    """

    def __init__(self, mean: float = -1.2, std: float = 1.2) -> None:
        if not (math.isfinite(mean) and 0 < std < math.inf):
            raise ValueError(f"mean is {mean} and std {std}; they must be finite, and std positive")
        self.mean = mean
        self.std = std

    def draw(self, n: int, process: ContinuousProcess) -> Tensor:
        z = torch.special.ndtri(spread_uniform(n, process.device))
        return process.path.time_of_ratio((self.mean + self.std * z).exp()).clamp(0, 1)
