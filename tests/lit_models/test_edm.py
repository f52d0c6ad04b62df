import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import lognorm
from torch import Tensor, nn

from lit_models import EDM
from lit_models.common.dpm_solver import DPMSolver
from lit_models.common.edm_sampler import EDMSampler
from lit_models.common.noise_paths import KarrasPath, LinearPath
from lit_models.common.noise_predictors import MLPNoisePredictor, UNet
from lit_models.common.noise_process import ContinuousProcess
from lit_models.common.ode_likelihood import ODELikelihood
from lit_models.common.ode_samplers import Midpoint
from lit_models.common.samplers import DDIM
from lit_models.common.times import LogNormalTimes

SHAPE = (1, 4, 4)
MEAN, STD = 0.2, 0.3
"""Mean and deviation of pixels in [-1, 1]."""


def model_of(**options: Any) -> EDM:
    torch.manual_seed(0)
    return EDM(**{"network": MLPNoisePredictor((16,)), "sampler": EDMSampler(4), "image_shape": SHAPE, **options})


def images(n: int) -> Tensor:
    return (MEAN + STD * torch.randn(n, *SHAPE) + 1) / 2


def batch(n: int) -> tuple[Tensor, Tensor]:
    return images(n), torch.arange(n) % 10


class _Knowing(nn.Module):
    """What is expected of the images, from the scaled x and log(s) / 4, as the paper defines F."""

    def __init__(self, model: EDM) -> None:
        super().__init__()
        self.kind, self.d = model.prediction, model.data_std

    def forward(self, scaled: Tensor, condition: Tensor, labels: Tensor | None = None) -> Tensor:
        s, d = (4 * condition).exp().view(-1, 1, 1, 1), self.d
        x = scaled * (s**2 + d**2).sqrt()
        image = (STD**2 * x + s**2 * MEAN) / (STD**2 + s**2)
        if self.kind == "preconditioned":
            return (image - d**2 / (s**2 + d**2) * x) * (s**2 + d**2).sqrt() / (s * d)
        return image if self.kind == "image" else (x - image) / s


# Training.


def test_the_loss_of_a_network_without_an_output_is_one():
    """A U-Net ends in zeros at first, and the preconditioned target has unit variance at each noise level, for data of
    deviation `data_std` around 0."""
    model = model_of(network=UNet((8, 8), patch_size=2), data_std=0.3).train()
    data = (0.3 * torch.randn(4000, *SHAPE) + 1) / 2
    loss = model.loss_terms((data, torch.zeros(4000)))["loss"]
    assert loss.item() == pytest.approx(1, abs=5 * math.sqrt(2 / 64000))


def test_the_loss_is_that_of_the_paper():
    """E w |D(x, s) - x_0|^2, w = (s^2 + d^2) / (s d)^2, with the c of table 1, from the network itself."""
    model = model_of(ema_decay=0.0).train()
    data, d, n = images(50), 0.5, 50
    torch.manual_seed(4)
    loss = model.loss_terms((data, torch.zeros(n)))["loss"]
    torch.manual_seed(4)
    t = model.times.draw(n, model.process)
    s = model.process.at(t).sigma
    x = 2 * data - 1 + s * torch.randn(n, *SHAPE)
    c_skip, c_out, c_in = d**2 / (s**2 + d**2), s * d / (s**2 + d**2).sqrt(), 1 / (s**2 + d**2).sqrt()
    found = c_skip * x + c_out * model.network(c_in * x, s.flatten().log() / 4)
    weight = (s**2 + d**2) / (s * d) ** 2
    torch.testing.assert_close(loss, (weight * (found - (2 * data - 1)).square()).mean(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["preconditioned", "noise", "image"])
def test_a_network_that_knows_has_one_loss_and_one_distribution(kind: Any):
    """Validation has the error of a normal distribution's mean by hand; samples have its mean and deviation."""
    model = model_of(prediction=kind, sampler=EDMSampler(80, clip=False), path=KarrasPath(sigma_max=20.0)).eval()
    model.ema_network = _Knowing(model)
    torch.manual_seed(0)
    loss = model.loss_terms(batch(20_000))["loss"].item()
    s = model.process.path.alpha_sigma(torch.linspace(0, 1, 10_001, dtype=torch.float64))[1]
    expected = (STD**2 / (STD**2 + s**2) * (s**2 + 0.25) / 0.25).mean().item()  # s^2 STD^2 / (STD^2 + s^2) / c_out^2
    assert loss == pytest.approx(expected, rel=0.02)
    samples = 2 * model.sample(5000) - 1
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert samples.std().item() == pytest.approx(STD, rel=0.02)


@pytest.mark.parametrize("path", [KarrasPath(), LinearPath()])
def test_log_normal_times_are_those_of_the_noise_levels(path: Any):
    """Their quantiles by scipy: each of 1,000 parts of equal probability has one of 1,000 draws."""
    process, times = ContinuousProcess(path), LogNormalTimes(-1.0, 1.4)
    t = times.draw(1000, process)
    assert t.min() >= 0 and t.max() <= 1 and not torch.equal(t, t.sort().values)
    alpha, sigma = path.alpha_sigma(t.double())
    quantiles = np.sort(lognorm(1.4, scale=math.exp(-1.0)).cdf((sigma / alpha).numpy()))
    np.testing.assert_allclose(np.diff(quantiles), 1e-3, rtol=0.02)


def test_levels_beyond_the_path_are_those_of_its_ends():
    t = LogNormalTimes(3.0, 3.0).draw(1000, ContinuousProcess(KarrasPath()))
    assert (
        t.min() == 0
        and t.max() == 1
        and (t == 1).float().mean() == pytest.approx(1 - lognorm(3, scale=math.exp(3)).cdf(80), abs=0.002)
    )


# Likelihood.


def test_the_likelihood_is_that_of_the_images():
    """Normal pixels, dequantised: the bits of their bins of 2/255, by the density of their distribution."""
    model = model_of(likelihood=ODELikelihood(Midpoint(20), probes=0)).eval()
    model.ema_network = _Knowing(model)
    data = torch.randint(100, 200, (2, *SHAPE)) / 255
    nats = torch.distributions.Normal(MEAN, STD).log_prob(2 * data - 1).flatten(1).sum(dim=1) + 16 * math.log(
        2 / 255 * 256
    )
    torch.testing.assert_close(model.log_prob(data), nats, rtol=0, atol=0.05)


def test_training_for_a_likelihood_dequantises():
    images = torch.full((2, *SHAPE), 0.5)
    for likelihood in (None, ODELikelihood()):
        clean = model_of(likelihood=likelihood)._clean(images)
        assert clean.abs().max() <= 1 / 255 and (clean.std() > 0) == (likelihood is not None)


# Labels.


def test_guidance_extrapolates_the_predicted_image():
    """D(x | y) + w (D(x | y) - D(x)), as c_skip and c_out do not depend on the class."""
    model = model_of(conditional=True, guidance_scale=1.5).eval()
    noisy, level = torch.randn(3, *SHAPE), model.process.level(0.6)
    asked, any_class = torch.tensor([1, 4, 9]), torch.full((3,), 10)
    with torch.no_grad():
        guided = model.denoise(noisy, level, asked).clean
        model.guidance_scale = 0.0
        of_class, of_any = (model.denoise(noisy, level, labels).clean for labels in (asked, any_class))
    assert not torch.allclose(of_class, of_any)
    torch.testing.assert_close(guided, 2.5 * of_class - 1.5 * of_any)


# Bad input.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_std": 0.0}, "data_std is 0.0; it must be positive"),
        ({"guidance_scale": 1.0}, "guidance_scale needs a conditional model"),
        ({"sampler": DDIM(None)}, "give the sampler's steps"),
        ({"sampler": DPMSolver(None)}, "give the sampler's steps"),
    ],
)
def test_invalid_arguments_raise_an_error(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        model_of(**options)


def test_invalid_times_raise_an_error():
    with pytest.raises(ValueError, match="mean is 0 and std 0; they must be finite, and std positive"):
        LogNormalTimes(0, 0)
