"""Solvers of the flow, on normal images, whose flow is known."""

from typing import Any

import pytest
import torch

from lit_models.common.diffusion import Diffusion
from lit_models.common.noise_paths import KarrasPath, LinearPath, NoisePath, VariancePreservingPath
from lit_models.common.noise_process import ContinuousProcess
from lit_models.common.noise_schedules import CosineSchedule
from lit_models.common.ode_samplers import AdaptiveODE, Euler, FixedSteps, Heun, Midpoint, ODESampler
from tests.lit_models.gaussian_flow import SHAPE, GaussianImages

FLOW = GaussianImages()
PATHS = [LinearPath(), VariancePreservingPath(), KarrasPath(0.01, 10.0, 3)]


def name_of(value: object) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__


def error_of(sampler: ODESampler, process: ContinuousProcess) -> float:
    noise = torch.randn(20, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noisy = process.level(1.0).sigma * noise
    return (sampler.sample(process, FLOW.denoise, noisy) - FLOW.image_of(process, noisy)).abs().max().item()


@pytest.mark.parametrize("path", PATHS, ids=name_of)
@pytest.mark.parametrize(("kind", "order"), [(Euler, 1), (Midpoint, 2), (Heun, 2)], ids=name_of)
def test_errors_fall_at_least_with_the_order_of_the_method(kind: Any, order: int, path: NoisePath):
    """Along the linear path, midpoint steps are of order three for normal images."""
    coarse, fine = (error_of(kind(steps), ContinuousProcess(path)) for steps in (60, 120))
    assert coarse < 0.4 and coarse / fine > 0.95 * 2**order


@pytest.mark.parametrize("path", PATHS, ids=name_of)
def test_an_adaptive_solver_stays_within_its_tolerance(path: NoisePath):
    process, found = ContinuousProcess(path), []
    for tolerance in (1e-3, 1e-7):
        sampler = AdaptiveODE(rtol=tolerance, atol=tolerance)
        assert error_of(sampler, process) < 30 * tolerance
        found.append(sampler.last_evaluations)
    assert found[0] < found[1]


@pytest.mark.parametrize("sampler", [Euler(3), Midpoint(3), Heun(3), AdaptiveODE()], ids=name_of)
@pytest.mark.parametrize("path", [LinearPath(), KarrasPath(0.01, 10.0, 3)], ids=name_of)
def test_evaluations_are_counted(sampler: ODESampler, path: NoisePath):
    process, calls = ContinuousProcess(path), []

    def denoise(x: torch.Tensor, level: Any) -> Any:
        calls.append(level.time)
        return FLOW.denoise(x, level)

    sampler.sample(process, denoise, torch.randn(2, *SHAPE, dtype=torch.float64))
    if isinstance(sampler, AdaptiveODE):
        assert sampler.evaluations(process) is None and 0 < sampler.last_evaluations <= len(calls)
    else:
        assert sampler.evaluations(process) == len(calls)
    assert max(calls) <= 1 and min(calls) > -1e-9  # a network knows no other times


def test_a_field_that_cannot_be_followed_raises_an_error():
    with pytest.raises(ValueError, match="found no step with an error below rtol 0.001.*Euler, Midpoint or Heun"):
        AdaptiveODE().integrate(lambda x, t: x**2, torch.ones(1), 0.0, 2.0)  # 1 / (1 - t)
    assert AdaptiveODE().integrate(lambda x, t: x * torch.nan, torch.ones(1), 0.0, 1.0).isnan().all()


def test_a_model_of_timesteps_is_refused():
    with pytest.raises(ValueError, match="Heun needs a model of continuous time.*use DDIM, Ancestral"):
        Heun(2).check(Diffusion(CosineSchedule(), 10))


def test_invalid_arguments_raise_an_error():
    makers = (lambda: Euler(0), lambda: AdaptiveODE(rtol=0.0), lambda: AdaptiveODE(atol=-1.0))
    for make in makers:
        with pytest.raises(ValueError, match="must be"):
            make()


def test_all_methods_with_fixed_steps_are_tested():
    assert {Euler, Midpoint, Heun} == set(FixedSteps.__subclasses__())
