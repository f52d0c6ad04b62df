"""Samplers that turn noise into images step by step, to be injected into a diffusion or score model."""

import copy
import itertools
import math
from abc import ABC, abstractmethod
from typing import Literal, Self

import torch
from torch import Tensor

from lit_models.common.component import Component
from lit_models.common.noise_process import Denoised, Denoiser, Level, NoiseProcess, posterior


class Sampler(Component, ABC):
    """Base class of samplers."""

    steps: int | None
    """Number of noise levels before the image. None: all timesteps of the model."""

    @abstractmethod
    def sample(self, process: NoiseProcess, denoise: Denoiser, noisy: Tensor) -> Tensor:
        """Generates images.

        Args:
            process: Noising process of the model.
            denoise: Predicts image and noise in x_t.
            noisy: x_t at the highest noise level, N x C x H x W.

        Returns:
            x_0, N x C x H x W, with pixels in [-1, 1] for a perfect model.

        Raises:
            ValueError: the sampler has more steps than the model has timesteps.
        """

    def levels(self, process: NoiseProcess) -> list[Level[float]]:
        """The noise levels that the sampler goes through, from the highest to the image; evenly spaced in time.

        Raises:
            ValueError: the sampler has more steps than the model has timesteps.
        """
        return process.levels(self.steps)

    def check(self, process: NoiseProcess) -> None:
        """Checks that the sampler fits the noising process.

        Raises:
            ValueError: the sampler has more steps than the model has timesteps.
        """
        self.levels(process)

    def evaluations(self, process: NoiseProcess) -> int | None:
        """Number of evaluations of the network for an image, without those of guidance; None if it depends on images.

        Examples:
            >>> from lit_models.common.diffusion import Diffusion
            >>> from lit_models.common.noise_schedules import CosineSchedule
            >>> DDIM(steps=20).evaluations(Diffusion(CosineSchedule(), 100))
            20
        """
        return len(self.levels(process)) - 1

    def without_clip(self) -> Self:
        """The sampler that does not clip the predicted x_0, which is in [-1, 1] for pixels and anywhere for codes."""
        if not getattr(self, "clip", False):
            return self
        sampler = copy.copy(self)
        vars(sampler)["clip"] = False
        return sampler


def check_steps(steps: int | None) -> None:
    """Checks a sampler's number of steps.

    Raises:
        ValueError: `steps` is below 1.
    """
    if steps is not None and steps < 1:
        raise ValueError(f"steps of the sampler is {steps}; it must be at least 1")


class Ancestral(Sampler):
    """x_s ~ N(mu(x_t, x_0), v I), x_0 predicted from x_t (Ho et al. 2020, arXiv 2006.11239, algorithm 2).

    Args:
        steps: Number of timesteps, evenly spaced; all of them by default.
        variance: Variance v: that of the posterior q(x_s | x_t, x_0), which is optimal if the data are one point, or
            the larger one of the forward step, which is optimal if they are standard normal (section 3.2).
        clip: Clips the predicted x_0 to [-1, 1].

    Raises:
        ValueError: `steps` is below 1.

    Examples:
        >>> Ancestral(steps=100).steps
        100
    """

    def __init__(
        self,
        steps: int | None = None,
        variance: Literal["posterior", "forward"] = "posterior",
        clip: bool = True,
    ) -> None:
        check_steps(steps)
        self.steps = steps
        self.variance = variance
        self.clip = clip

    def sample(self, process: NoiseProcess, denoise: Denoiser, noisy: Tensor) -> Tensor:
        for high, low in itertools.pairwise(self.levels(process)):
            clean = clipped(denoise(noisy, high), noisy, high, self.clip).clean
            step = posterior(high, low)
            noisy = step.noisy_weight * noisy + step.clean_weight * clean
            if low.sigma:
                variance = step.variance * ((high.sigma / low.sigma) ** 2 if self.variance == "forward" else 1)
                noisy = noisy + math.sqrt(variance) * torch.randn_like(noisy)
        return noisy


class DDIM(Sampler):
    """x_s = a_s x_0 + sqrt(s_s^2 - v) e + sqrt(v) z (Song et al. 2021, arXiv 2010.02502, eq. 12).

    Args:
        steps: Number of timesteps, evenly spaced; none for all.
        eta: v is eta^2 times the variance of the posterior q(x_s | x_t, x_0). 0: sampling is deterministic given x_T;
            1: it is that of `Ancestral`.
        clip: Clips the predicted x_0 to [-1, 1], and computes the noise e from it.

    Raises:
        ValueError: `steps` is below 1, or `eta` outside [0, 1].

    Examples:
        >>> DDIM(steps=20, eta=0.5).steps
        20
    """

    def __init__(self, steps: int | None = 50, eta: float = 0.0, clip: bool = True) -> None:
        check_steps(steps)
        if not 0 <= eta <= 1:
            raise ValueError(f"eta is {eta}; it must be in [0, 1]")
        self.steps = steps
        self.eta = eta
        self.clip = clip

    def sample(self, process: NoiseProcess, denoise: Denoiser, noisy: Tensor) -> Tensor:
        for high, low in itertools.pairwise(self.levels(process)):
            clean, noise = clipped(denoise(noisy, high), noisy, high, self.clip)
            variance = self.eta**2 * posterior(high, low).variance
            noisy = low.alpha * clean + math.sqrt(max(low.sigma**2 - variance, 0)) * noise
            if variance:
                noisy = noisy + math.sqrt(variance) * torch.randn_like(noisy)
        return noisy


class AnnealedLangevin(Sampler):
    """Langevin dynamics x' = x + d/2 score(x) + sqrt(d) z at each noise level, from the highest level to the lowest.

    Song and Ermon 2019, arXiv 1907.05600, algorithm 1. The last step, which replaces x_1 by the expected image, is that
    of Jolicoeur-Martineau et al. 2021, arXiv 2009.05475.

    Args:
        steps: Number of noise levels, evenly spaced; all of them by default.
        steps_per_level: Number of Langevin steps at each noise level.
        step_size: Step size d relative to the variance s_t^2 of the noise level.
        denoise: Replaces x_1 by the expected image in the end.

    Raises:
        ValueError: a number is out of range.

    Examples:
        >>> AnnealedLangevin(steps_per_level=2).denoise
        True
    """

    def __init__(
        self, steps: int | None = None, steps_per_level: int = 5, step_size: float = 0.1, denoise: bool = True
    ) -> None:
        check_steps(steps)
        if steps_per_level < 1 or not step_size > 0:
            raise ValueError(
                f"steps_per_level is {steps_per_level} and step_size {step_size}; they must be at least 1 and positive"
            )
        self.steps = steps
        self.steps_per_level = steps_per_level
        self.step_size = step_size
        self.denoise = denoise

    def sample(self, process: NoiseProcess, denoise: Denoiser, noisy: Tensor) -> Tensor:
        levels = self.levels(process)[:-1]
        for level in levels:
            d = self.step_size * level.sigma**2
            for _ in range(self.steps_per_level):
                score = -denoise(noisy, level).noise / level.sigma
                noisy = noisy + d / 2 * score + math.sqrt(d) * torch.randn_like(noisy)
        return denoise(noisy, levels[-1]).clean if self.denoise else noisy

    def evaluations(self, process: NoiseProcess) -> int:
        return (len(self.levels(process)) - 1) * self.steps_per_level + self.denoise


def clipped(predicted: Denoised, noisy: Tensor, level: Level[float], clip: bool) -> Denoised:
    """With `clip`, clips a predicted image to [-1, 1] and computes the noise in x_t from it."""
    if not clip:
        return predicted
    clean = predicted.clean.clamp(-1, 1)
    return Denoised(clean, (noisy - level.alpha * clean) / level.sigma)
