"""Noise schedules, the noising process, and samplers, compared with closed forms of known distributions."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from lit_models.common.diffusion import Diffusion, discretised_log_likelihood
from lit_models.common.dpm_solver import DPMSolver
from lit_models.common.edm_sampler import EDMSampler
from lit_models.common.noise_paths import KarrasPath, LinearPath, NoisePath, VariancePreservingPath
from lit_models.common.noise_process import ContinuousProcess, Denoised, Denoiser, Level, posterior
from lit_models.common.noise_schedules import CosineSchedule, GeometricSchedule, LinearSchedule, NoiseSchedule
from lit_models.common.samplers import DDIM, Ancestral, AnnealedLangevin, Sampler

SCHEDULES = [LinearSchedule(), CosineSchedule(), GeometricSchedule()]
MEAN, STD = 0.3, 0.2
"""Mean and deviation of the pixels, which the exact network knows."""


def exact(std: float = STD) -> Denoiser:
    """E[x_0 | x_t] and E[e | x_t] of pixels N(MEAN, std^2), which are jointly normal, by hand."""

    def denoise(noisy: Tensor, level: Level[float]) -> Denoised:
        a, s = level.alpha, level.sigma
        per_variance = (noisy - a * MEAN) / (a**2 * std**2 + s**2)
        return Denoised(MEAN + a * std**2 * per_variance, s * per_variance)

    return denoise


def of_noise(predict: Callable[[Tensor, float], Tensor]) -> Denoiser:
    """Image and noise where a function of x_t and t predicts the noise."""

    def denoise(noisy: Tensor, level: Level[float]) -> Denoised:
        noise = predict(noisy, level.time)
        return Denoised((noisy - level.sigma * noise) / level.alpha, noise)

    return denoise


# Schedules.


def test_a_linear_schedule_is_that_of_the_paper():
    betas = np.linspace(1e-4, 0.02, 1000)
    signal, noise = LinearSchedule().levels(1000)
    np.testing.assert_allclose(signal[1:] ** 2, np.cumprod(1 - betas), rtol=1e-10)
    np.testing.assert_allclose(noise[1:] ** 2, 1 - np.cumprod(1 - betas), rtol=1e-8)
    assert signal[-1] ** 2 == pytest.approx(4.04e-5, rel=1e-2)  # "L_T is about 1e-5 bits" rests on it


def test_a_cosine_schedule_is_that_of_the_paper():
    times = np.arange(51) / 50
    f = np.cos((times + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - f[1:] / f[:-1], 0.999)
    signal, _ = CosineSchedule().levels(50)
    np.testing.assert_allclose(signal[1:] ** 2, np.cumprod(1 - betas), rtol=1e-10)
    np.testing.assert_allclose(signal[:-1] ** 2, f[:-1] / f[0], rtol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_noise_increases_from_zero(schedule: NoiseSchedule):
    signal, noise = schedule.levels(100)
    assert (signal[0], noise[0]) == (1, 0) and signal.dtype == noise.dtype == torch.float64
    assert bool((noise.diff() > 0).all()) and bool((signal.diff() <= 0).all()) and len(noise) == 101
    if not isinstance(schedule, GeometricSchedule):
        torch.testing.assert_close(signal**2 + noise**2, torch.ones(101, dtype=torch.float64))


def test_a_geometric_schedule_grows_in_equal_ratios():
    noise = GeometricSchedule(0.1, 10).levels(5)[1].tolist()
    assert noise[1:] == pytest.approx([0.1, 10**-0.5, 1, 10**0.5, 10])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearSchedule(0.1, 0.01), "0 < beta_start <= beta_end < 1"),
        (lambda: LinearSchedule().levels(20), "needs at least 21 timesteps, not 20"),
        (lambda: CosineSchedule(-1), "offset is -1; it must be at least 0"),
        (lambda: GeometricSchedule(1, 1), "0 < sigma_min < sigma_max"),
        (lambda: Diffusion(LinearSchedule(), 0), "there must be at least 1"),
        (lambda: DDIM(0), "at least 1"),
        (lambda: DDIM(eta=2), r"in \[0, 1\]"),
        (lambda: AnnealedLangevin(step_size=0), "step_size 0; they must be"),
        (
            lambda: DDIM(50).check(Diffusion(CosineSchedule(), 20)),
            "50 steps needs as many timesteps, and the model has 20",
        ),
    ],
)
def test_invalid_arguments_raise_an_error(make: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        make()


# The posterior and the bound.


def test_the_posterior_of_one_step_is_that_of_the_paper():
    diffusion, betas = Diffusion(LinearSchedule(), 1000), np.linspace(1e-4, 0.02, 1000)
    bar = np.cumprod(1 - betas)
    for t in (2, 10, 500, 1000):
        beta, now, before = betas[t - 1], bar[t - 1], bar[t - 2]
        found = posterior(diffusion.level(t), diffusion.level(t - 1))
        assert found.clean_weight == pytest.approx(np.sqrt(before) * beta / (1 - now), rel=1e-6)
        assert found.noisy_weight == pytest.approx(np.sqrt(1 - beta) * (1 - before) / (1 - now), rel=1e-6)
        assert found.variance == pytest.approx((1 - before) / (1 - now) * beta, rel=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize(("t", "s"), [(100, 99), (80, 20), (7, 1)])
def test_the_posterior_is_a_conditional_normal_distribution(schedule: NoiseSchedule, t: int, s: int):
    """Given x_0, x_t = r x_s + noise, so that Cov(x_s, x_t) = r Var(x_s)."""
    diffusion = Diffusion(schedule, 100)
    ratio, var_s, var_t = diffusion.a[t] / diffusion.a[s], diffusion.s[s] ** 2, diffusion.s[t] ** 2
    x_0, x_t = 0.7, -0.4
    gain = ratio * var_s / var_t
    found = posterior(diffusion.level(t), diffusion.level(s))
    mean = found.noisy_weight * x_t + found.clean_weight * x_0
    assert mean == pytest.approx(diffusion.a[s] * x_0 + gain * (x_t - diffusion.a[t] * x_0), rel=1e-9, abs=1e-12)
    assert found.variance == pytest.approx(var_s - gain * ratio * var_s, rel=1e-6)


def test_the_bound_weights_errors_by_the_kl_of_the_posteriors():
    diffusion = Diffusion(CosineSchedule(), 30)
    x_0, noise, predicted = 0.4, 1.2, 0.7
    for t in range(2, 31):
        x_t = diffusion.a[t] * x_0 + diffusion.s[t] * noise
        found = posterior(diffusion.level(t), diffusion.level(t - 1))
        means = [
            found.noisy_weight * x_t + found.clean_weight * (torch.tensor(x_t) - diffusion.s[t] * e) / diffusion.a[t]
            for e in (noise, predicted)
        ]
        std = math.sqrt(found.variance)
        divergence = kl_divergence(Normal(means[0].double(), std), Normal(means[1].double(), std))
        weighted = diffusion.bound_weight[t].item() * (noise - predicted) ** 2
        assert weighted == pytest.approx(divergence.item(), rel=2e-3)


def test_the_prior_kl_is_that_of_normal_distributions():
    diffusion = Diffusion(LinearSchedule(), 100)
    clean = torch.rand(3, 1, 2, 2) * 2 - 1
    by_torch = kl_divergence(Normal(diffusion.a[-1] * clean, diffusion.s[-1]), Normal(0.0, 1.0)).flatten(1).sum(dim=1)
    torch.testing.assert_close(diffusion.prior_kl(clean), by_torch, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("mean", "std"), [(0.1, 0.01), (-1.2, 0.05), (0.9, 1.0), (0.0, 0.3)])
def test_the_probabilities_of_all_256_values_add_up_to_one(mean: float, std: float):
    values = (torch.arange(256) / 255 * 2 - 1).view(-1, 1, 1, 1)
    found = discretised_log_likelihood(values, torch.full_like(values, mean), std)
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-3)
    edges = (np.arange(255) + 0.5) / 255 * 2 - 1
    mass = np.diff(np.concatenate([[0], norm.cdf(edges, mean, std), [1]]))
    seen = mass > 1e-6
    np.testing.assert_allclose(found.exp().numpy()[seen], mass[seen], rtol=2e-2)
    assert torch.isfinite(found).all()


def test_small_probabilities_have_a_finite_gradient():
    values = torch.tensor([-1.0, 0.0, 1.0]).view(-1, 1, 1, 1)
    mean = torch.tensor([1.0, 1.0, -1.0]).view(-1, 1, 1, 1).requires_grad_()
    found = discretised_log_likelihood(values, mean, 0.01)
    found.sum().backward()
    assert torch.isfinite(found).all() and mean.grad is not None and torch.isfinite(mean.grad).all()
    assert (mean.grad.flatten().sign() == torch.tensor([-1.0, -1.0, 1.0])).all()


# Samplers.


SAMPLERS: dict[str, tuple[NoiseSchedule | NoisePath, Sampler]] = {
    "ancestral": (CosineSchedule(), Ancestral(clip=False)),
    "ancestral, larger variance": (LinearSchedule(), Ancestral(variance="forward", clip=False)),
    "ancestral, 100 of 200 steps": (CosineSchedule(), Ancestral(100, clip=False)),
    "ddim": (LinearSchedule(), DDIM(None, clip=False)),
    "ddim, 50 of 200 steps": (CosineSchedule(), DDIM(50, clip=False)),
    "ddim, noisy": (LinearSchedule(), DDIM(None, eta=0.5, clip=False)),
    "ddim, growing variance": (GeometricSchedule(0.02, 20), DDIM(None, clip=False)),
    "ancestral, growing variance": (GeometricSchedule(0.02, 20), Ancestral(clip=False)),
    "langevin": (GeometricSchedule(0.02, 5), AnnealedLangevin(50, steps_per_level=60, step_size=0.1)),
    "langevin, kept variance": (LinearSchedule(), AnnealedLangevin(50, steps_per_level=60, step_size=0.1)),
    "heun": (LinearSchedule(), EDMSampler(18, clip=False)),
    "heun, from noise alone": (CosineSchedule(), EDMSampler(18, clip=False)),
    "heun, EDM": (KarrasPath(), EDMSampler(18, clip=False)),
    "heun, flow, stochastic": (LinearPath(), EDMSampler(40, s_churn=20, s_noise=1, clip=False)),
    "dpm 2": (CosineSchedule(), DPMSolver(30, clip=False)),
    "dpm 2, flow": (LinearPath(), DPMSolver(30, clip=False)),
    "dpm 3, EDM": (KarrasPath(), DPMSolver(30, 3, clip=False)),
    "dpm 1, stochastic": (VariancePreservingPath(), DPMSolver(60, 1, True, "log_snr", clip=False)),
    "dpm 2, stochastic, flow": (LinearPath(), DPMSolver(40, 2, True, "karras", clip=False)),
    "dpm 3, stochastic": (LinearSchedule(), DPMSolver(40, 3, True, clip=False)),
}


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_a_sampler_with_an_exact_network_draws_from_the_data_distribution(name: str):
    """20,000 draws of N(0.3, 0.2^2): the mean is off by at most 4 standard errors of 0.0014, in one test of 16,000 but
    for bias, and the deviation by 0.001 and what finite steps leave."""
    noise, sampler = SAMPLERS[name]
    torch.manual_seed(0)
    process = ContinuousProcess(noise) if isinstance(noise, NoisePath) else Diffusion(noise, 200)
    generated = sampler.sample(process, exact(), process.sample_noise(20_000, (1, 1, 1)))
    assert generated.mean().item() == pytest.approx(MEAN, abs=0.012)
    assert generated.std().item() == pytest.approx(STD, rel=0.08)


@pytest.mark.parametrize("sampler", [Ancestral(10), DDIM(10), DDIM(10, eta=1.0), Ancestral(10, "forward")])
def test_identical_images_are_recovered(sampler: Sampler):
    """The data are one point: the network predicts it as x_0 at any noise level, and the last step returns it."""
    diffusion = Diffusion(LinearSchedule(), 100)
    generated = sampler.sample(diffusion, exact(std=0.0), diffusion.sample_noise(5, (1, 2, 2)))
    torch.testing.assert_close(generated, torch.full_like(generated, MEAN), rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [None, 7])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_ddim_with_eta_1_is_ancestral_sampling(schedule: NoiseSchedule, steps: int | None):
    diffusion = Diffusion(schedule, 50)
    start = diffusion.sample_noise(100, (1, 2, 2))
    generated = []
    for sampler in (Ancestral(steps), DDIM(steps, eta=1.0)):
        torch.manual_seed(1)
        generated.append(sampler.sample(diffusion, of_noise(lambda x, t: (3 * x).sin() * t), start))
    torch.testing.assert_close(*generated, rtol=1e-3, atol=1e-3)


def test_ddim_without_noise_is_deterministic():
    diffusion = Diffusion(LinearSchedule(), 50)
    start = diffusion.sample_noise(10, (1, 2, 2))
    before = torch.get_rng_state()
    a, b = (DDIM(5).sample(diffusion, exact(), start) for _ in range(2))
    assert torch.equal(a, b) and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("count", "expected"), [(None, list(range(10, -1, -1))), (3, [10, 7, 3, 0]), (1, [10, 0])])
def test_timesteps_of_a_sampler_are_evenly_spaced(count: int | None, expected: list[int]):
    assert Diffusion(CosineSchedule(), 10).timesteps(count) == expected


def test_clipping_keeps_image_and_noise_in_range():
    diffusion = Diffusion(LinearSchedule(), 50)
    seen: list[Tensor] = []

    def predict(noisy: Tensor, t: float) -> Tensor:
        seen.append(noisy)
        return -5 * torch.ones_like(noisy)

    generated = DDIM(5).sample(diffusion, of_noise(predict), diffusion.sample_noise(10, (1, 2, 2)))
    assert generated.max() <= 1 and all(noisy.abs().max() < 6 for noisy in seen)
    assert DDIM(5, clip=False).sample(diffusion, of_noise(predict), diffusion.sample_noise(10, (1, 2, 2))).max() > 5
