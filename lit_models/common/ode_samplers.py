"""Samplers that solve the differential equation dx/dt = v(x, t) of a model of continuous time, to be injected into it.

v is the expected velocity of x_t = alpha x_0 + sigma e given x_t. It is what a flow-matching model predicts, and for a
diffusion model the probability-flow equation (Song et al. 2021, arXiv 2011.13456, section 4.3). The solution has the
same distribution as x_t at each time t.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torchdiffeq import odeint

from lit_models.common.noise_process import ContinuousProcess, Denoiser, NoiseProcess
from lit_models.common.predictions import target
from lit_models.common.samplers import Sampler, check_steps

Field = Callable[[Tensor, float], Tensor]
"""The derivative of a state at a time: N x ... -> N x ..."""


class ODESampler(Sampler):
    """Base class of samplers that integrate the velocity from noise, at t = 1, to the image, at t = 0.

    A path that ends with some noise, as `KarrasPath` does, takes one evaluation more, which predicts the image there.
    """

    @abstractmethod
    def integrate(self, field: Field, state: Tensor, start: float, end: float) -> Tensor:
        """Solves dx/dt = field(x, t) from the state at time `start` to that at time `end`: N x ... -> N x ..."""

    def sample(self, process: NoiseProcess, denoise: Denoiser, noisy: Tensor) -> Tensor:
        process = continuous(process, self)
        start, end = process.level(1.0), process.level(0.0)
        scaled = self.integrate(velocity_field(process, denoise), noisy / process.input_std(start)[0], 1.0, 0.0)
        noisy = process.input_std(end)[0] * scaled
        return denoise(noisy, end).clean if end.sigma else noisy

    def check(self, process: NoiseProcess) -> None:
        continuous(process, self)


class FixedSteps(ODESampler):
    """Base class of explicit Runge-Kutta methods with equal steps of time.

    Args:
        steps: Number of steps.

    Raises:
        ValueError: `steps` is below 1.
    """

    stages: ClassVar[int]
    """Number of evaluations of the network in a step."""

    def __init__(self, steps: int) -> None:
        check_steps(steps)
        self.steps: int = steps

    def evaluations(self, process: NoiseProcess) -> int:
        return self.stages * self.steps + bool(continuous(process, self).level(0.0).sigma)

    @abstractmethod
    def step(self, field: Field, x: Tensor, t: float, h: float) -> Tensor:
        """The state at time t + h, from that at time t."""

    def integrate(self, field: Field, state: Tensor, start: float, end: float) -> Tensor:
        h = (end - start) / self.steps
        for k in range(self.steps):
            state = self.step(field, state, start + k * h, h)
        return state


class Euler(FixedSteps):
    """x + h v(x, t): first order, one evaluation a step.

    Args:
        steps: Number of steps.

    Raises:
        ValueError: `steps` is below 1.

    Examples:
        >>> Euler(steps=2).integrate(lambda x, t: x, torch.ones(1), 0.0, 1.0)
        tensor([2.2500])
    """

    stages = 1

    def __init__(self, steps: int = 50) -> None:
        super().__init__(steps)

    def step(self, field: Field, x: Tensor, t: float, h: float) -> Tensor:
        return x + h * field(x, t)


class Midpoint(FixedSteps):
    """x + h v(x + h/2 v(x, t), t + h/2): second order, two evaluations a step.

    Args:
        steps: Number of steps.

    Raises:
        ValueError: `steps` is below 1.

    Examples:
        >>> Midpoint(steps=2).integrate(lambda x, t: x, torch.ones(1), 0.0, 1.0)
        tensor([2.6406])
    """

    stages = 2

    def __init__(self, steps: int = 25) -> None:
        super().__init__(steps)

    def step(self, field: Field, x: Tensor, t: float, h: float) -> Tensor:
        return x + h * field(x + h / 2 * field(x, t), t + h / 2)


class Heun(FixedSteps):
    """x + h/2 (v(x, t) + v(x + h v(x, t), t + h)): second order, two evaluations a step.

    Args:
        steps: Number of steps.

    Raises:
        ValueError: `steps` is below 1.

    Examples:
        >>> Heun(steps=2).integrate(lambda x, t: x, torch.ones(1), 0.0, 1.0)
        tensor([2.6406])
    """

    stages = 2

    def __init__(self, steps: int = 25) -> None:
        super().__init__(steps)

    def step(self, field: Field, x: Tensor, t: float, h: float) -> Tensor:
        first = field(x, t)
        return x + h / 2 * (first + field(x + h * first, t + h))


class AdaptiveODE(ODESampler):
    """A Runge-Kutta method of torchdiffeq that chooses its steps, the same for all images of a batch.

    A step is accepted if its estimated error is below atol + rtol |x|, as a root mean square over the batch.

    Args:
        rtol: Relative tolerance.
        atol: Absolute tolerance. Half a grey level of 8 bits is 0.004 for pixels in [-1, 1].
        method: Method: of Dormand and Prince 1980, order 5 or 8; of Bogacki and Shampine 1989, order 3; of Heun or
            Fehlberg, order 2.

    Raises:
        ValueError: a tolerance is not positive.

    Examples:
        >>> AdaptiveODE(rtol=1e-6, atol=1e-6).integrate(lambda x, t: x, torch.ones(1), 0.0, 1.0)
        tensor([2.7183])
    """

    steps: None = None

    def __init__(
        self,
        rtol: float = 1e-3,
        atol: float = 1e-3,
        method: Literal["dopri5", "dopri8", "bosh3", "adaptive_heun", "fehlberg2"] = "dopri5",
    ) -> None:
        if not (rtol > 0 and atol > 0):
            raise ValueError(f"rtol is {rtol} and atol {atol}; both must be positive")
        self.rtol = rtol
        self.atol = atol
        self.method = method
        self.last_evaluations = 0
        """Number of evaluations of the network in the last call of `integrate`."""

    def evaluations(self, process: NoiseProcess) -> None:
        """None, as the number depends on the images."""

    def integrate(self, field: Field, state: Tensor, start: float, end: float) -> Tensor:
        self.last_evaluations = 0

        def counted(t: Tensor, x: Tensor) -> Tensor:
            self.last_evaluations += 1
            return field(x, t.item())

        times = torch.tensor([start, end], dtype=state.dtype, device=state.device)
        last = {"step_t": times[1:]}  # else the last step goes beyond the end
        try:
            return odeint(counted, state, times, rtol=self.rtol, atol=self.atol, method=self.method, options=last)[-1]
        except AssertionError as error:  # the step became too small
            if not field(state, start).isfinite().all():
                return torch.full_like(state, torch.nan)  # as of the other samplers, whose callers check it
            raise ValueError(
                f"AdaptiveODE found no step with an error below rtol {self.rtol} and atol {self.atol} ({error}); give"
                " larger ones, or use Euler, Midpoint or Heun"
            ) from error


def continuous(process: NoiseProcess, sampler: ODESampler) -> ContinuousProcess:
    """The process, if its time is continuous.

    Raises:
        ValueError: it has discrete timesteps.
    """
    if not isinstance(process, ContinuousProcess):
        raise ValueError(
            f"{type(sampler).__name__} needs a model of continuous time, and this one has timesteps: use DDIM,"
            " Ancestral or AnnealedLangevin"
        )
    return process


def velocity_field(process: ContinuousProcess, denoise: Denoiser) -> Field:
    """The velocity of x_t / c, N x C x H x W, at a time, from what a model predicts; c is `process.input_std`.

    x_t itself moves most where noise is strongest, along `KarrasPath` by 50 in a step; x_t / c has unit variance at all
    times, and is stationary for normal data.
    """

    def velocity(scaled: Tensor, time: float) -> Tensor:
        level = process.level(time)
        std, rate = process.input_std(level)
        return (target("velocity", *denoise(std * scaled, level), level) - rate * scaled) / std

    return velocity
