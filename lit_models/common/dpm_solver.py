"""DPM-Solver++, to be injected into a model from noise."""

import itertools
import math
from typing import Literal

import torch
from torch import Tensor

from lit_models.common.noise_process import Denoiser, Level, NoiseProcess, ratio_of
from lit_models.common.samplers import Sampler, check_steps, clipped
from lit_models.common.spacing import Spacing, spaced_levels


class DPMSolver(Sampler):
    """DPM-Solver++: an exponential integrator of the predicted x_0 over l = log(alpha / sigma), with previous steps.

    Lu et al. 2022, arXiv 2211.01095. From level t to s, with h = l_s - l_t, it integrates

        x_s = sigma_s / sigma_t x_t + alpha_s int_0^h e^(u - h) x_0(u) du,

    where x_0(u) is the polynomial in u through the predictions at the last `order` levels (algorithm 2 for order 2).
    Order 1 is DDIM. Each step takes one evaluation of the network. The first steps have lower orders, as there are no
    previous predictions, and the last step, where h is infinite, is of order 1. A prediction from noise alone, with l
    infinite, is not used by later steps.

    `stochastic` solves the stochastic equation (appendix A of arXiv 2211.01095), which adds noise in each step.

    Args:
        steps: Number of noise levels; all timesteps of the model if none.
        order: Order of the method; 2 is the authors' advice, 3 for models without guidance.
        stochastic: Solves the stochastic differential equation.
        spacing: Spacing of the noise levels.
        clip: Clips the predicted x_0 to [-1, 1].

    Raises:
        ValueError: `steps` is below 1.

    Examples:
        >>> DPMSolver(steps=10, order=3).steps
        10
    """

    def __init__(
        self,
        steps: int | None = 20,
        order: Literal[1, 2, 3] = 2,
        stochastic: bool = False,
        spacing: Spacing = "time",
        clip: bool = True,
    ) -> None:
        check_steps(steps)
        self.steps = steps
        self.order = order
        self.stochastic = stochastic
        self.spacing: Spacing = spacing
        self.clip = clip

    def levels(self, process: NoiseProcess) -> list[Level[float]]:
        return spaced_levels(process, self.steps, self.spacing)

    def sample(self, process: NoiseProcess, denoise: Denoiser, noisy: Tensor) -> Tensor:
        past: list[tuple[float, Tensor]] = []
        for high, low in itertools.pairwise(self.levels(process)):
            now = (-math.log(ratio_of(high)), clipped(denoise(noisy, high), noisy, high, self.clip).clean)
            noisy = self._step([now, *past], noisy, high, low)
            past = [now, *past][: self.order - 1] if high.alpha else []
        return noisy

    def _step(
        self, predicted: list[tuple[float, Tensor]], noisy: Tensor, high: Level[float], low: Level[float]
    ) -> Tensor:
        """x_s from x_t, N x C x H x W, and l and x_0 at level t and before it, latest first."""
        clean = predicted[0][1]
        if not low.sigma:
            return low.alpha * clean
        kept = ratio_of(low) / ratio_of(high)  # e^-h
        h = math.inf if kept == 0 else -math.log(kept)
        k, scale = h, low.sigma / high.sigma
        if self.stochastic:  # the same integral with e^(2 (u - h))
            scale, kept, k = scale * kept, kept**2, 2 * h
        added = (1 - kept) * clean
        slopes = differences(predicted, h)
        if len(slopes) == 1:
            added = added + (1 - kept) / 2 * slopes[0]
        elif slopes:
            added = added + (1 - (1 - kept) / k) * slopes[0] + (1 / 2 - (k - 1 + kept) / k**2) * slopes[1]
        noisy = scale * noisy + low.alpha * added
        return noisy + low.sigma * math.sqrt(1 - kept) * torch.randn_like(noisy) if self.stochastic else noisy


def differences(predicted: list[tuple[float, Tensor]], h: float) -> list[Tensor]:
    """First and second differences at the latest point, per step h, of up to three points (l, value), latest first.

    Examples:
        >>> differences([(2.0, torch.tensor(4.0)), (1.0, torch.tensor(1.0)), (0.0, torch.tensor(0.0))], 1.0)
        [tensor(4.), tensor(1.)]
    """
    steps = [after[0] - before[0] for after, before in itertools.pairwise(predicted)]
    values = itertools.pairwise(value for _, value in predicted)
    slopes = [h / step * (after - before) for step, (after, before) in zip(steps, values, strict=True)]
    if len(slopes) < 2:
        return slopes
    second = h / sum(steps) * (slopes[0] - slopes[1])
    return [slopes[0] + steps[0] / h * second, second]
