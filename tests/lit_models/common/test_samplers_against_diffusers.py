"""Samplers against the schedulers of diffusers: with the same model and noise, the same x_t at each evaluation."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from lit_models.common.diffusion import Diffusion
from lit_models.common.dpm_solver import DPMSolver
from lit_models.common.edm_sampler import EDMSampler
from lit_models.common.noise_paths import KarrasPath
from lit_models.common.noise_process import ContinuousProcess, Denoised, Level, NoiseProcess, ratio_of
from lit_models.common.noise_schedules import LinearSchedule
from lit_models.common.samplers import DDIM, Ancestral, Sampler

DISCRETE, CONTINUOUS = Diffusion(LinearSchedule(), 100), ContinuousProcess(KarrasPath())
STD = 0.5
SAMPLE = {"prediction_type": "sample"}
MULTISTEP = {**SAMPLE, "lower_order_final": False}
LARGE = {"variance_type": "fixed_large", "clip_sample": False}


class Case(NamedTuple):
    sampler: Sampler
    scheduler: str
    """Name of the class in diffusers."""
    options: Mapping[str, Any]
    output: str = "image"
    """What the model of diffusers predicts: image, noise, or preconditioned."""
    step: Mapping[str, Any] = MappingProxyType({})
    """Options of a step."""
    scaled: bool = False
    """Whether diffusers takes x_t / alpha for x_t."""

    @property
    def process(self) -> NoiseProcess:
        return CONTINUOUS if self.scheduler.startswith("EDM") else DISCRETE


CASES = {
    "ddim": Case(DDIM(10, clip=False), "DDIMScheduler", {**SAMPLE, "clip_sample": False}),
    "ddim, noisy and clipped": Case(
        DDIM(10, eta=0.6), "DDIMScheduler", SAMPLE, step={"eta": 0.6, "use_clipped_model_output": True}
    ),
    "ddim, Euler": Case(DDIM(10, clip=False), "EulerDiscreteScheduler", {}, "noise", scaled=True),
    "ddim, EDM's levels": Case(DDIM(10, clip=False), "EDMEulerScheduler", {}, "preconditioned"),
    "ancestral": Case(Ancestral(10), "DDPMScheduler", SAMPLE),
    "ancestral, larger variance": Case(Ancestral(100, "forward", clip=False), "DDPMScheduler", {**SAMPLE, **LARGE}),
    "heun": Case(EDMSampler(10, clip=False), "HeunDiscreteScheduler", {}, "noise", scaled=True),
    "dpm 1": Case(DPMSolver(10, 1, clip=False), "DPMSolverMultistepScheduler", {**MULTISTEP, "solver_order": 1}),
    "dpm 2": Case(DPMSolver(10, 2, clip=False), "DPMSolverMultistepScheduler", MULTISTEP),
    "dpm 3": Case(DPMSolver(10, 3, clip=False), "DPMSolverMultistepScheduler", {**MULTISTEP, "solver_order": 3}),
    "dpm 2, clipped": Case(
        DPMSolver(10), "DPMSolverMultistepScheduler", {**MULTISTEP, "thresholding": True, "sample_max_value": 1.0}
    ),
    "dpm 1, stochastic": Case(
        DPMSolver(10, 1, stochastic=True, clip=False),
        "DPMSolverMultistepScheduler",
        {**MULTISTEP, "solver_order": 1, "algorithm_type": "sde-dpmsolver++"},
    ),
    "dpm 2, stochastic": Case(
        DPMSolver(10, 2, stochastic=True, clip=False),
        "DPMSolverMultistepScheduler",
        {**MULTISTEP, "algorithm_type": "sde-dpmsolver++"},
    ),
    "dpm 2, EDM's levels": Case(
        DPMSolver(10, 2, clip=False),
        "EDMDPMSolverMultistepScheduler",
        {"lower_order_final": False},
        "preconditioned",
    ),
    "dpm 3, EDM's levels": Case(
        DPMSolver(10, 3, spacing="karras", clip=False),
        "EDMDPMSolverMultistepScheduler",
        {"lower_order_final": False, "solver_order": 3},
        "preconditioned",
    ),
}


def predicted(noisy: Tensor, level: Level[float]) -> Denoised:
    """An image from x_t, smooth in both, partly beyond [-1, 1]."""
    spread = (level.alpha**2 + level.sigma**2) ** 0.5
    clean = 1.2 * (noisy / spread + 1 / (1 + ratio_of(level))).sin()
    return Denoised(clean, (noisy - level.alpha * clean) / level.sigma)


def ours(case: Case, start: Tensor) -> list[tuple[Tensor, Level[float]]]:
    """x_t and noise level of each evaluation, then the image."""
    seen = []

    def denoise(noisy: Tensor, level: Level[float]) -> Denoised:
        seen.append((noisy, level))
        return predicted(noisy, level)

    torch.manual_seed(0)
    image = case.sampler.sample(case.process, denoise, start)
    return [*seen, (image, case.process.levels(1)[-1])]


def scheduler_of(case: Case) -> Any:
    import diffusers

    scheduler = getattr(diffusers, case.scheduler)(num_train_timesteps=100, **case.options)
    if case.process is CONTINUOUS:
        scheduler.set_timesteps(10)
        return scheduler
    scheduler.alphas_cumprod = torch.tensor(DISCRETE.a[1:], dtype=torch.float64) ** 2
    timesteps = [round(100 * level.time) - 1 for level in case.sampler.levels(DISCRETE)[:-1]]
    if case.scheduler == "DDIMScheduler":  # has no other than even timesteps
        scheduler.set_timesteps(10)
        scheduler.timesteps = torch.tensor(timesteps)
    else:
        scheduler.set_timesteps(timesteps=timesteps)
    return scheduler


@pytest.mark.filterwarnings("ignore:__array__ implementation")
@pytest.mark.parametrize("name", list(CASES))
def test_a_sampler_takes_the_steps_of_diffusers(name: str):
    case = CASES[name]
    start = case.process.sample_noise(3, (1, 4, 4))
    found, scheduler = ours(case, start), scheduler_of(case)
    assert len(scheduler.timesteps) == len(found) - 1 == case.sampler.evaluations(case.process)
    sample = start / found[0][1].alpha if case.scaled else start
    torch.manual_seed(0)
    for t, (noisy, level) in zip([*scheduler.timesteps, None], found, strict=True):
        expected = sample * level.alpha if case.scaled else sample
        torch.testing.assert_close(noisy, expected, rtol=1e-4, atol=1e-4 * max(1, level.sigma))
        if t is None:
            break
        clean, noise = predicted(expected, level)
        if case.output == "preconditioned":
            c_skip = STD**2 / (level.sigma**2 + STD**2)
            c_out = level.sigma * STD / (level.sigma**2 + STD**2) ** 0.5
            clean = (clean - c_skip * expected) / c_out
        scheduler.scale_model_input(sample, t)
        output = noise if case.output == "noise" else clean
        sample = scheduler.step(output, t, sample, **case.step).prev_sample
