"""Ways from noise to images through the levels of a diffusion, to be injected into a model."""

import itertools
import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from lit_models.common.component import Component
from lit_models.common.diffusion import Diffusion, Predictor


class Sampler(Component, ABC):
    """
    Args:
        steps: levels that it goes through, evenly spread; None: all of them.
    """

    steps: int | None

    @abstractmethod
    def sample(self, diffusion: Diffusion, predict: Predictor, noisy: Tensor) -> Tensor:
        """x_0, in [-1, 1] as far as it is one of the data, of x_T, N x C x H x W.

        Raises:
            ValueError: more steps than there are levels.
        """

    def check(self, diffusion: Diffusion) -> None:
        """
        Raises:
            ValueError: more steps than there are levels.
        """
        diffusion.times(self.steps)


def at_least_one_step(steps: int | None) -> None:
    """
    Raises:
        ValueError: it is less.
    """
    if steps is not None and steps < 1:
        raise ValueError(f"a sampler of {steps} steps; there must be at least 1")


class Ancestral(Sampler):
    """x_s ~ N(mu(x_t, x_0), v I), x_0 the image that the network sees in x_t (Ho et al. 2020, 2006.11239, algorithm 2).

    Args:
        steps: levels that it goes through; all by default.
        variance: v, of the posterior q(x_s | x_t, x_0) or of the step forward, which is larger: the right ones for data
            that are one point, and that are standard normal (section 3.2).
        clip: keep x_0 in [-1, 1].
    """

    def __init__(
        self,
        steps: int | None = None,
        variance: Literal["posterior", "forward"] = "posterior",
        clip: bool = True,
    ) -> None:
        at_least_one_step(steps)
        self.steps = steps
        self.variance = variance
        self.clip = clip

    def sample(self, diffusion: Diffusion, predict: Predictor, noisy: Tensor) -> Tensor:
        times = diffusion.times(self.steps)
        for t, s in itertools.pairwise(times):
            clean, _ = clean_and_noise(diffusion, predict, noisy, t, self.clip)
            posterior = diffusion.posterior(t, s)
            noisy = posterior.of_noisy * noisy + posterior.of_clean * clean
            if s:
                noisy = noisy + self._spread(diffusion, t, s) * torch.randn_like(noisy)
        return noisy

    def _spread(self, diffusion: Diffusion, t: int, s: int) -> float:
        variance = diffusion.posterior(t, s).variance
        if self.variance == "forward":
            variance *= (diffusion.s[t] / diffusion.s[s]) ** 2
        return math.sqrt(variance)


class DDIM(Sampler):
    """x_s = a_s x_0 + sqrt(s_s^2 - v) e + sqrt(v) z (Song et al. 2021, arXiv 2010.02502, eq. 12).

    Args:
        steps: levels that it goes through, a few of them.
        eta: v in units of the posterior's variance, squared; 0: x_0 follows from x_T alone, 1: as `Ancestral`.
        clip: keep x_0 in [-1, 1], and e what is then the noise in x_t.
    """

    def __init__(self, steps: int | None = 50, eta: float = 0.0, clip: bool = True) -> None:
        at_least_one_step(steps)
        if not 0 <= eta <= 1:
            raise ValueError(f"eta is {eta}; it must be from 0 to 1")
        self.steps = steps
        self.eta = eta
        self.clip = clip

    def sample(self, diffusion: Diffusion, predict: Predictor, noisy: Tensor) -> Tensor:
        times = diffusion.times(self.steps)
        for t, s in itertools.pairwise(times):
            clean, noise = clean_and_noise(diffusion, predict, noisy, t, self.clip)
            variance = self.eta**2 * diffusion.posterior(t, s).variance
            noisy = diffusion.a[s] * clean + math.sqrt(max(diffusion.s[s] ** 2 - variance, 0)) * noise
            if variance:
                noisy = noisy + math.sqrt(variance) * torch.randn_like(noisy)
        return noisy


class AnnealedLangevin(Sampler):
    """x' = x + d/2 score(x) + sqrt(d) z, at each level d in proportion to its variance s_t^2, from the noisiest on.

    Song and Ermon 2019, arXiv 1907.05600, algorithm 1; the last step without noise, from x_1 to the image expected in
    it, is that of Jolicoeur-Martineau et al. 2021, arXiv 2009.05475.

    Args:
        steps: levels that it goes through; all by default.
        steps_per_level: of Langevin dynamics at each of them.
        step_size: d at a level, in units of its variance s_t^2.
        denoise: the last step.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self, steps: int | None = None, steps_per_level: int = 5, step_size: float = 0.1, denoise: bool = True
    ) -> None:
        at_least_one_step(steps)
        if steps_per_level < 1 or not step_size > 0:
            raise ValueError(
                f"steps_per_level is {steps_per_level} and step_size {step_size}; the first must be at least 1, the"
                " second positive"
            )
        self.steps = steps
        self.steps_per_level = steps_per_level
        self.step_size = step_size
        self.denoise = denoise

    def sample(self, diffusion: Diffusion, predict: Predictor, noisy: Tensor) -> Tensor:
        levels = diffusion.times(self.steps)[:-1]
        for t in levels:
            d = self.step_size * diffusion.s[t] ** 2
            for _ in range(self.steps_per_level):
                score = -predict(noisy, t) / diffusion.s[t]
                noisy = noisy + d / 2 * score + math.sqrt(d) * torch.randn_like(noisy)
        if not self.denoise:
            return noisy
        return diffusion.clean(noisy, predict(noisy, levels[-1]), levels[-1])


def clean_and_noise(
    diffusion: Diffusion, predict: Predictor, noisy: Tensor, t: int, clip: bool
) -> tuple[Tensor, Tensor]:
    """x_0 and the noise that make up x_t."""
    noise = predict(noisy, t)
    clean = diffusion.clean(noisy, noise, t)
    if not clip:
        return clean, noise
    clean = clean.clamp(-1, 1)
    return clean, diffusion.noise_in(noisy, clean, t)
