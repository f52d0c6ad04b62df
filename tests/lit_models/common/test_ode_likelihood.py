"""Likelihoods by the flow, on normal images, whose density is known, and on a small network."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lit_models import FlowMatching
from lit_models.common.noise_paths import KarrasPath, LinearPath, NoisePath, VariancePreservingPath
from lit_models.common.noise_predictors import MLPNoisePredictor
from lit_models.common.noise_process import ContinuousProcess
from lit_models.common.ode_likelihood import ODELikelihood, dequantise_signed
from lit_models.common.ode_samplers import AdaptiveODE, Heun, Midpoint, ODESampler, velocity_field
from lit_models.losses.likelihood import dequantise
from tests.lit_models.gaussian_flow import SHAPE, GaussianImages

FLOW = GaussianImages()
LINEAR = ContinuousProcess(LinearPath())
FINE = AdaptiveODE(1e-7, 1e-7)


def points(n: int = 5) -> Tensor:
    return torch.randn(n, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("path", "solver", "tolerance"),
    [
        (LinearPath(), FINE, 2e-5),
        (VariancePreservingPath(), FINE, 2e-5),
        # N(0, 1 + 1000^2) stands for the distribution of x_1, whose mean and variance differ a little from it.
        (KarrasPath(0.01, 1000.0, 7), AdaptiveODE(1e-6, 1e-6), 5e-3),
        (LinearPath(), Midpoint(40), 1e-2),
    ],
    ids=["linear", "preserving", "karras", "fixed steps"],
)
def test_the_exact_trace_gives_the_density_of_normal_images(path: NoisePath, solver: ODESampler, tolerance: float):
    process = ContinuousProcess(path)
    found = ODELikelihood(solver, probes=0).log_density(process, FLOW.denoise, points())
    torch.testing.assert_close(found, FLOW.log_density(process, points()), rtol=0, atol=tolerance)


def test_noise_of_many_scales_is_integrated_at_unit_variance():
    """Along the path of EDM sigma grows from 0.002 to 80, and x_t with it: 25 steps would be off by 4.8 nats."""
    process = ContinuousProcess(KarrasPath(), data_std=0.5)
    found = ODELikelihood(Midpoint(25), probes=0).log_density(process, FLOW.denoise, points())
    torch.testing.assert_close(found, FLOW.log_density(process, points()), rtol=0, atol=0.2)


@pytest.mark.parametrize("distribution", ["signs", "normal"])
def test_random_probes_are_unbiased(distribution: Any):
    """The exact value is within four standard errors of the mean of 4,000 estimates, which differ."""
    torch.manual_seed(0)
    copies = points(1).expand(4000, *SHAPE)
    likelihood = ODELikelihood(Midpoint(30), probe_distribution=distribution)
    found = likelihood.log_density(LINEAR, FLOW.denoise, copies)
    exact = ODELikelihood(Midpoint(30), probes=0).log_density(LINEAR, FLOW.denoise, points(1))
    error = found.std().item() / math.sqrt(4000)
    assert error > 0.001 and abs(found.mean().item() - exact.item()) < 4 * error
    several = ODELikelihood(Midpoint(30), 4, distribution).log_density(LINEAR, FLOW.denoise, copies)
    assert several.std().item() == pytest.approx(found.std().item() / 2, rel=0.1)


def small_model(**options: Any) -> FlowMatching:
    torch.manual_seed(3)
    model = FlowMatching(MLPNoisePredictor((16,)), image_shape=(1, 2, 2), **options)
    for parameter in model.network.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    model.ema_network.load_state_dict(model.network.state_dict())
    return model.eval()


def test_the_density_is_that_of_a_change_of_variables():
    """log N(x_1) + log |det dx_1/dx_0|, by the Jacobian of the whole solution."""
    model = small_model(likelihood=ODELikelihood(Heun(50), probes=0))
    images = torch.rand(1, 1, 2, 2)
    field = velocity_field(model.process, model.denoise)

    def solution(x: Tensor) -> Tensor:
        return Heun(50).integrate(field, x.view(1, 1, 2, 2), 0.0, 1.0).flatten()

    start = dequantise_signed(images, 0.5).flatten()
    jacobian = torch.autograd.functional.jacobian(solution, start)
    normal = torch.distributions.Normal(0, 1).log_prob(solution(start)).sum()
    # From [-1 - 1/255, 1 + 1/255] to [0, 1], each of the four pixels gains a factor of 512/255.
    expected = normal + jacobian.slogdet().logabsdet + 4 * math.log(512 / 255)
    assert model.log_prob(images).item() == pytest.approx(expected.item(), abs=2e-3)


def test_bits_per_dimension_are_those_of_dequantised_images():
    """Also where gradients are off, and from the probabilities of the bins: a normal density over [-1.004, 1.004]."""
    model = small_model()
    images = torch.randint(0, 256, (3, 1, 2, 2)) / 255
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            torch.manual_seed(0)
            found = ODELikelihood(Heun(10), probes=0).bits_per_dim(model, images.clone(), None)
        torch.manual_seed(0)
        y = dequantise(images, torch.rand_like(images))
        z = 256 / 255 * (2 * y - 1)
        density = ODELikelihood(Heun(10), probes=0).log_density(model.process, model.denoise, z)
        expected = -(density + 4 * math.log(2 / 255)) / (4 * math.log(2))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_middle_of_a_bin_is_the_value_itself():
    levels = torch.arange(256) / 255
    torch.testing.assert_close(dequantise_signed(levels, 0.5), 2 * levels - 1)
    torch.testing.assert_close(dequantise_signed(levels, 0.3), 256 / 255 * (2 * dequantise(levels, 0.3) - 1))


def test_invalid_arguments_raise_an_error():
    for options in ({"probes": -1}, {"num_images": 0}):
        with pytest.raises(ValueError, match="must be at least 0 and 1"):
            ODELikelihood(**options)
