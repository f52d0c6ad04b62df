import numpy as np
import pytest
import scipy.linalg
import torch

from genlab.metrics import FrechetDistance


def of(real: torch.Tensor, fake: torch.Tensor) -> float:
    metric = FrechetDistance(real.shape[1])
    for part in real.split(7):
        metric.update(part, real=True)
    for part in fake.split(11):
        metric.update(part, real=False)
    return metric.compute().item()


def test_distance_equals_that_of_the_fitted_gaussians():
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(60, 5, generator=generator) @ torch.randn(5, 5, generator=generator) + 3
    fake = torch.randn(80, 5, generator=generator) @ torch.randn(5, 5, generator=generator)
    a, b = real.double().numpy(), fake.double().numpy()
    s, t = np.cov(a.T), np.cov(b.T)
    cross = scipy.linalg.sqrtm(s @ t).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * cross)
    assert of(real, fake) == pytest.approx(expected, rel=1e-5)


def test_a_shift_has_the_distance_of_its_squared_length():
    real = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    assert of(real, real) == pytest.approx(0, abs=1e-6)
    assert of(real, real + torch.tensor([3.0, 0, 4, 0])) == pytest.approx(25, rel=1e-5)


def test_a_scaled_set_has_the_closed_form():
    """S_f = 4 S_r and m_f = 2 m_r: |m|^2 + tr S (1 + 4 - 2 * 2)."""
    real = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) + 1
    expected = real.mean(0).square().sum() + real.var(0).sum()
    assert of(real, 2 * real) == pytest.approx(expected.item(), rel=1e-5)


def test_fewer_images_than_features():
    """Singular covariances: of a set and itself, and of one point."""
    real = torch.rand(20, 64, generator=torch.Generator().manual_seed(0))
    assert 0 <= of(real, real) < 1e-5
    assert 0 <= of(real[:19], real[:19]) < 1e-5
    point = real[:1].expand(30, -1)
    expected = (real.mean(0) - real[0]).square().sum() + real.var(0).sum()
    assert of(real, point) == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_features_that_are_not_finite_have_infinite_distance(bad: float):
    real = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    fake = real.clone()
    fake[7, 2] = bad
    assert of(real, fake) == np.inf


def test_one_image_has_no_distance():
    real = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    assert np.isnan(of(real, real[:1])) and np.isnan(of(real[:1], real))


def test_reset_keeps_the_real_ones():
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 40, 3, generator=generator)
    metric = FrechetDistance(3)
    metric.update(real, real=True)
    for _ in range(2):
        metric.update(fake, real=False)
        assert metric.compute().item() == pytest.approx(of(real, fake), rel=1e-6)
        metric.reset()
