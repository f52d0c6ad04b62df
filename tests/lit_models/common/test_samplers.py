"""Samplers of higher order: their algorithms, order of convergence, limits, noise levels and number of evaluations."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_models.common.diffusion import Diffusion
from lit_models.common.dpm_solver import DPMSolver
from lit_models.common.edm_sampler import EDMSampler
from lit_models.common.noise_paths import KarrasPath, LinearPath, VariancePreservingPath
from lit_models.common.noise_process import ContinuousProcess, Denoised, Level, NoiseProcess, ratio_of
from lit_models.common.noise_schedules import CosineSchedule, GeometricSchedule, LinearSchedule
from lit_models.common.ode_samplers import Midpoint
from lit_models.common.samplers import DDIM, AnnealedLangevin, Sampler
from lit_models.common.spacing import Spacing, spaced_levels

KARRAS, FLOW, PRESERVING = (ContinuousProcess(path) for path in (KarrasPath(), LinearPath(), VariancePreservingPath()))
MEAN, STD = 0.3, 0.5


def gaussian(noisy: Tensor, level: Level[float]) -> Denoised:
    """E[x_0 | x_t] and E[e | x_t] of pixels N(MEAN, STD^2)."""
    per_variance = (noisy - level.alpha * MEAN) / ((level.alpha * STD) ** 2 + level.sigma**2)
    return Denoised(MEAN + level.alpha * STD**2 * per_variance, level.sigma * per_variance)


def curved(noisy: Tensor, level: Level[float]) -> Denoised:
    clean = 1.2 * (noisy / math.hypot(level.alpha, level.sigma) + 1 / (1 + ratio_of(level))).sin()
    return Denoised(clean, (noisy - level.alpha * clean) / level.sigma)


def algorithm_2(
    process: NoiseProcess, t: list[float], x: Tensor, s_churn: float, s_min: float, s_max: float, s_noise: float
) -> Tensor:
    """Karras et al. 2022, algorithm 2, line by line, and the nearest noise levels of the authors' code."""

    def denoiser(x: Tensor, sigma: float) -> Tensor:
        level = process.level_of_ratio(sigma)
        return curved(level.alpha * x, level).clean

    steps = len(t) - 1
    for i in range(steps):
        gamma = min(s_churn / steps, math.sqrt(2) - 1) if s_min <= t[i] <= s_max else 0
        t_hat, x_hat = ratio_of(process.level_of_ratio(t[i] + gamma * t[i])), x
        if gamma > 0:
            x_hat = x + math.sqrt(t_hat**2 - t[i] ** 2) * s_noise * torch.randn_like(x)
        d = (x_hat - denoiser(x_hat, t_hat)) / t_hat
        x = x_hat + (t[i + 1] - t_hat) * d
        if t[i + 1]:
            d_next = (x - denoiser(x, t[i + 1])) / t[i + 1]
            x = x_hat + (t[i + 1] - t_hat) * (d / 2 + d_next / 2)
    return x


@pytest.mark.parametrize("process", [KARRAS, Diffusion(LinearSchedule(), 1000)], ids=["karras", "discrete"])
@pytest.mark.parametrize("churn", [(0, 0.05, 50, 1), (4, 0.05, 50, 1.003), (30, 0.1, 10, 0.9)])
def test_the_sampler_of_edm_is_the_algorithm_of_the_paper(
    churn: tuple[float, float, float, float], process: NoiseProcess
):
    sampler = EDMSampler(9, *churn, clip=False)
    levels = sampler.levels(process)
    start = ratio_of(levels[0]) * torch.randn(3, 1, 2, 2, dtype=torch.float64)
    torch.manual_seed(1)
    expected = algorithm_2(process, [ratio_of(level) for level in levels], start, *churn)
    torch.manual_seed(1)
    torch.testing.assert_close(sampler.sample(process, curved, levels[0].alpha * start), expected)


def test_clipping_holds_for_every_prediction():
    for sampler in (EDMSampler(6), DPMSolver(6), DPMSolver(6, stochastic=True)):
        images = sampler.sample(KARRAS, curved, KARRAS.sample_noise(100, (1, 2, 2)))
        assert images.abs().max() <= 1
        unclipped = type(sampler)(6, clip=False).sample(KARRAS, curved, KARRAS.sample_noise(100, (1, 2, 2)))
        assert unclipped.abs().max() > 1


def error(sampler: Sampler, process: NoiseProcess) -> float:
    """Largest error where the data are normal, against the exact flow up to the lowest level with noise."""
    first, *_, last, _ = sampler.levels(process)
    start = torch.linspace(-2, 2, 9, dtype=torch.float64).view(-1, 1, 1, 1) * math.hypot(first.alpha, first.sigma)
    spreads = [math.hypot(level.alpha * STD, level.sigma) for level in (first, last)]
    at_last = last.alpha * MEAN + spreads[1] / spreads[0] * (start - first.alpha * MEAN)
    return (sampler.sample(process, gaussian, start) - gaussian(at_last, last).clean).abs().max().item()


@pytest.mark.parametrize("process", [KARRAS, FLOW, PRESERVING], ids=["karras", "linear", "variance preserving"])
@pytest.mark.parametrize(
    ("make", "order"),
    [
        (lambda steps: DDIM(steps, clip=False), 1),
        (lambda steps: DPMSolver(steps, 1, clip=False), 1),
        (lambda steps: DPMSolver(steps, 2, spacing="log_snr", clip=False), 2),
        (lambda steps: EDMSampler(steps, clip=False), 2),
        (lambda steps: EDMSampler(steps, spacing="time", clip=False), 2),
    ],
    ids=["ddim", "dpm 1", "dpm 2", "heun", "heun in time"],
)
def test_errors_fall_with_the_order_of_the_method(
    make: Callable[[int], Sampler], order: int, process: ContinuousProcess
):
    """Twice as many steps divide the error by 2^order, within a quarter of a power."""
    coarse, fine = (error(make(steps), process) for steps in (64, 128))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.25)


def test_solvers_in_time_follow_noise_of_many_scales():
    """At unit variance, the more so where `data_std` is that of the data: then nothing moves but the mean."""
    for std, largest in ((1.0, 0.05), (STD, 1e-3)):
        found = error(Midpoint(10), ContinuousProcess(KarrasPath(), std))
        assert found < largest, std


def test_a_higher_order_is_more_exact():
    """Order 3 is so only after its first steps, so that the errors are compared, not their rate."""
    first, second, third = (error(DPMSolver(32, order, clip=False), KARRAS) for order in (1, 2, 3))
    assert third < second / 5 < first / 25


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("sampler", ["heun", "dpm"])
def test_one_point_is_found_from_noise_alone(sampler: str, stochastic: bool):
    """With alpha = 0 at first and sigma = 0 at last, the image is the point that the network predicts."""

    def point(noisy: Tensor, level: Level[float]) -> Denoised:
        return Denoised(torch.full_like(noisy, 0.4), (noisy - 0.4 * level.alpha) / level.sigma)

    made = EDMSampler(7, s_churn=5.0 * stochastic) if sampler == "heun" else DPMSolver(7, 3, stochastic)
    for process in (FLOW, PRESERVING):
        assert process.levels(7)[0].alpha == 0
        found = made.sample(process, point, process.sample_noise(20, (1, 2, 2)))
        torch.testing.assert_close(found, torch.full_like(found, 0.4))


# Noise levels and evaluations.


@pytest.mark.parametrize("process", [KARRAS, FLOW, PRESERVING, Diffusion(LinearSchedule(), 1000)])
@pytest.mark.parametrize("spacing", ["karras", "log_snr"])
def test_levels_are_spaced_as_they_say(spacing: Spacing, process: NoiseProcess):
    levels = spaced_levels(process, 9, spacing)
    assert levels[0] == process.levels(1)[0] and (levels[-1].alpha, levels[-1].sigma) == (1, 0) and len(levels) == 10
    low, tolerance = (0.01, 0.05) if isinstance(process, Diffusion) else (0.002, 1e-6)  # the nearest timesteps
    roots = np.linspace(80 ** (1 / 7), low ** (1 / 7), 9)
    expected = roots**7 if spacing == "karras" else np.geomspace(80, low, 9)
    assert [ratio_of(level) for level in levels[1:-1]] == pytest.approx(expected[1:].tolist(), rel=tolerance)


def test_even_time_is_the_spacing_of_the_paper_for_edm():
    by_time, by_ratio = (spaced_levels(KARRAS, 18, spacing) for spacing in ("time", "karras"))
    assert [level.sigma for level in by_time] == pytest.approx([level.sigma for level in by_ratio])


@pytest.mark.parametrize(
    ("sampler", "process", "expected"),
    [
        (DDIM(7), FLOW, 7),
        (DDIM(None), Diffusion(CosineSchedule(), 11), 11),
        (AnnealedLangevin(5, steps_per_level=3), Diffusion(GeometricSchedule(), 10), 16),
        (DPMSolver(7, 3), KARRAS, 7),
        (DPMSolver(None), Diffusion(CosineSchedule(), 9), 9),
        (EDMSampler(18), KARRAS, 35),
        (EDMSampler(18), FLOW, 34),
        (EDMSampler(6, s_churn=1), Diffusion(LinearSchedule(), 100), 11),
        (EDMSampler(1), KARRAS, 1),
    ],
)
def test_evaluations_are_those_of_the_network(sampler: Sampler, process: NoiseProcess, expected: int):
    calls = 0

    def counted(noisy: Tensor, level: Level[float]) -> Denoised:
        nonlocal calls
        calls += 1
        return gaussian(noisy, level)

    sampler.sample(process, counted, process.sample_noise(1, (1, 1, 1)))
    assert sampler.evaluations(process) == calls == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DPMSolver(0), "steps of the sampler is 0; it must be at least 1"),
        (lambda: EDMSampler(0), "steps of the sampler is 0; it must be at least 1"),
        (lambda: EDMSampler(s_churn=-1), "s_churn is -1, s_min 0.05, s_max 50.0 and s_noise 1.003; they need s_churn"),
        (lambda: EDMSampler(s_min=3, s_max=2), "0 <= s_min <= s_max"),
        (lambda: DPMSolver(None, spacing="karras").check(Diffusion(CosineSchedule(), 50)), "needs the number of the"),
        (lambda: DPMSolver(None).check(FLOW), "a model of continuous time has no end of noise levels"),
        (
            lambda: EDMSampler(40).check(Diffusion(CosineSchedule(), 50)),
            "the model has fewer than 40 different noise levels with spacing karras: use fewer steps",
        ),
    ],
)
def test_invalid_arguments_raise_an_error(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()
