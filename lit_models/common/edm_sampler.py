"""The sampler of Karras et al., to be injected into a model from noise."""

import itertools
import math

import torch
from torch import Tensor

from lit_models.common.noise_process import Denoiser, Level, NoiseProcess, ratio_of
from lit_models.common.samplers import Sampler, check_steps, clipped
from lit_models.common.spacing import Spacing, spaced_levels

NOISE_ALONE = 1e3
"""sigma / alpha above which x_t does not depend on the image, whose difference of predictions would be amplified."""


class EDMSampler(Sampler):
    """Heun's method for dx/ds = (x - x_0) / s, second order, with x_0 predicted from x and the noise level s.

    Karras et al. 2022, arXiv 2206.00364, algorithm 1, and with s_churn > 0 algorithm 2, which raises the noise level by
    fresh noise before each step. For models with alpha != 1, x is x_t / alpha and s is sigma / alpha. The last step,
    and a first step from noise alone, are Euler steps. N steps take 2 N - 1 evaluations of the network.

    For discrete timesteps each noise level is the nearest one, as in the authors' code.

    Args:
        steps: Number of noise levels.
        s_churn: Amount of fresh noise: it raises a noise level by the share s_churn / steps, at most sqrt(2) - 1. 0:
            sampling is deterministic given the first noise. The paper has 40 for 256 steps (table 5).
        s_min: Lowest sigma / alpha with fresh noise.
        s_max: Highest sigma / alpha with fresh noise.
        s_noise: Standard deviation of the fresh noise, relative to what the raised noise level calls for.
        spacing: Spacing of the noise levels.
        clip: Clips the predicted x_0 to [-1, 1].

    Raises:
        ValueError: a number is out of range.

    Examples:
        >>> from lit_models.common.noise_paths import KarrasPath
        >>> from lit_models.common.noise_process import ContinuousProcess
        >>> EDMSampler(steps=18).evaluations(ContinuousProcess(KarrasPath()))
        35
    """

    def __init__(
        self,
        steps: int = 18,
        s_churn: float = 0.0,
        s_min: float = 0.05,
        s_max: float = 50.0,
        s_noise: float = 1.003,
        spacing: Spacing = "karras",
        clip: bool = True,
    ) -> None:
        check_steps(steps)
        if not (0 <= s_churn < math.inf and 0 <= s_min <= s_max and 0 < s_noise < math.inf):
            raise ValueError(
                f"s_churn is {s_churn}, s_min {s_min}, s_max {s_max} and s_noise {s_noise}; they need s_churn at least"
                " 0, 0 <= s_min <= s_max, and s_noise above 0"
            )
        self.steps: int = steps
        self.s_churn = s_churn
        self.s_min = s_min
        self.s_max = s_max
        self.s_noise = s_noise
        self.spacing: Spacing = spacing
        self.clip = clip

    def levels(self, process: NoiseProcess) -> list[Level[float]]:
        return spaced_levels(process, self.steps, self.spacing)

    def evaluations(self, process: NoiseProcess) -> int:
        return sum(1 + _is_heun(high, low) for high, low in itertools.pairwise(self.levels(process)))

    def sample(self, process: NoiseProcess, denoise: Denoiser, noisy: Tensor) -> Tensor:
        for start, low in itertools.pairwise(self.levels(process)):
            noisy, high = self._raise(process, noisy, start)
            clean, noise = clipped(denoise(noisy, high), noisy, high, self.clip)
            lower = low.alpha * clean + low.sigma * noise  # Euler's step: x / alpha = x_0 + (sigma / alpha) e
            if _is_heun(high, low):
                again = clipped(denoise(lower, low), lower, low, self.clip).noise
                lower = lower + low.alpha * (ratio_of(low) - ratio_of(high)) / 2 * (again - noise)
            noisy = lower
        return noisy

    def _raise(self, process: NoiseProcess, noisy: Tensor, level: Level[float]) -> tuple[Tensor, Level[float]]:
        """Adds fresh noise to x_t, N x C x H x W, and returns it with its raised noise level."""
        ratio = ratio_of(level)
        if not self.s_churn or not self.s_min <= ratio <= self.s_max or ratio > NOISE_ALONE:
            return noisy, level
        raised = process.level_of_ratio((1 + min(self.s_churn / self.steps, math.sqrt(2) - 1)) * ratio)
        added = math.sqrt(max(ratio_of(raised) ** 2 - ratio**2, 0.0))
        fresh = added * self.s_noise * torch.randn_like(noisy)
        return raised.alpha * (noisy / level.alpha + fresh), raised


def _is_heun(high: Level[float], low: Level[float]) -> bool:
    """Whether both ends of a step have a derivative: neither noise alone nor the image."""
    return ratio_of(high) <= NOISE_ALONE and low.sigma > 0
