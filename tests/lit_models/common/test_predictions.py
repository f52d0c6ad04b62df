"""Predictions of a network, and paths of noise levels in continuous time."""

import math
from typing import get_args

import pytest
import torch

from lit_models.common.diffusion import Diffusion
from lit_models.common.noise_paths import KarrasPath, LinearPath, NoisePath, VariancePreservingPath
from lit_models.common.noise_process import ContinuousProcess, NoiseProcess
from lit_models.common.noise_schedules import CosineSchedule, GeometricSchedule
from lit_models.common.predictions import Prediction, denoised, target

PATHS = [LinearPath(), VariancePreservingPath(), KarrasPath()]
PROCESSES = [
    *(ContinuousProcess(path) for path in PATHS),
    Diffusion(CosineSchedule(), 30),
    Diffusion(GeometricSchedule(), 30),
]


def name_of(value: object) -> str:
    return type(value.path if isinstance(value, ContinuousProcess) else value).__name__


@pytest.mark.parametrize("process", PROCESSES, ids=name_of)
@pytest.mark.parametrize("kind", get_args(Prediction))
def test_image_and_noise_follow_from_every_prediction(kind: Prediction, process: NoiseProcess):
    """Over the levels of a sampler, but for the highest of a path without signal, where the noise says nothing."""
    clean, noise = torch.rand(4, 1, 2, 2, dtype=torch.float64) * 2 - 1, torch.randn(4, 1, 2, 2, dtype=torch.float64)
    for level in process.levels(9)[1:-1]:
        noisy = level.alpha * clean + level.sigma * noise
        found = denoised(kind, target(kind, clean, noise, level, 0.5), noisy, level, 0.5)
        torch.testing.assert_close(found.clean, clean, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(found.noise, noise, rtol=1e-6, atol=1e-9)
        of_batch = process.at(process.batch_time(level, 4))
        torch.testing.assert_close(of_batch.alpha.double(), torch.full((4, 1, 1, 1), level.alpha).double())
        torch.testing.assert_close(
            target(kind, clean, noise, of_batch, 0.5), target(kind, clean, noise, level, 0.5), rtol=1e-4, atol=1e-5
        )


def test_the_velocity_needs_no_signal():
    """At t = 1 of a linear path x_t is the noise, and its velocity is e - x_0."""
    highest = ContinuousProcess(LinearPath()).levels(2)[0]
    clean, noise = torch.rand(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    assert (highest.alpha, highest.sigma) == (0, 1)
    torch.testing.assert_close(denoised("velocity", noise - clean, noise, highest).clean, clean)


def test_a_preconditioned_network_is_that_of_the_paper():
    """Karras et al. 2022, table 1, with sigma_data = 0.5."""
    level = ContinuousProcess(KarrasPath()).level(0.4)
    noisy, prediction, sigma = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2), level.sigma
    c_skip, c_out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / math.sqrt(0.25 + sigma**2)
    found = denoised("preconditioned", prediction, noisy, level, 0.5)
    torch.testing.assert_close(found.clean, c_skip * noisy + c_out * prediction)


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_rates_are_derivatives_and_times_invert_ratios(path: NoisePath):
    t = torch.linspace(0.05, 0.95, 9, dtype=torch.float64, requires_grad=True)
    alpha, sigma = path.alpha_sigma(t)
    for level, rate in zip((alpha, sigma), path.rates(t), strict=True):
        by_autograd = torch.autograd.grad(level.sum(), t, retain_graph=True)[0] if level.requires_grad else 0 * t
        torch.testing.assert_close(rate, by_autograd)
    torch.testing.assert_close(path.time_of_ratio(sigma / alpha), t)


def test_levels_of_karras_are_those_of_the_paper():
    """Eq. 5, with N = 18."""
    sigmas = [level.sigma for level in ContinuousProcess(KarrasPath()).levels(18)]
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert sigmas == pytest.approx([*expected, 0])


def test_the_nearest_timestep_has_a_ratio():
    process = Diffusion(CosineSchedule(), 30)
    for t in (1, 7, 30):
        assert process.level_of_ratio(process.s[t] / process.a[t] * 1.001) == process.level(t)
