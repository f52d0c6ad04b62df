import numpy as np
import pytest
import torch
from torch import Tensor

from genlab.metrics import ManifoldDensityCoverage
from genlab.metrics import density_coverage as module


def naive(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float]:
    """One pair at a time, as in equations 4 and 5 of the paper."""
    radii = [sorted(np.linalg.norm(a - b) for b in real)[k] for a in real]
    inside = [[np.linalg.norm(a - b) <= r for b in fake] for a, r in zip(real, radii, strict=True)]
    return sum(map(sum, inside)) / (k * len(fake)), sum(map(any, inside)) / len(real)


def compute(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    metric = ManifoldDensityCoverage(k)
    for part in real.split(17):
        metric.update(part, real=True)
    for part in fake.split(13):
        metric.update(part, real=False)
    found = metric.compute()
    return found.density.item(), found.coverage.item()


@pytest.mark.parametrize("k", [1, 5])
def test_values_equal_a_naive_implementation(k: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CHUNK", 20)
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(60, 4, generator=generator)
    fake = 0.8 * torch.randn(50, 4, generator=generator) + 0.5
    assert compute(real, fake, k) == pytest.approx(naive(real.double().numpy(), fake.double().numpy(), k))


def test_extremes():
    real = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    density, coverage = compute(real, real)
    assert density == pytest.approx(1, abs=0.3) and coverage == 1
    assert compute(real, real + 100) == compute(real, torch.full_like(real, torch.nan)) == (0, 0)
    with_outlier = torch.cat([real, real[:1] + 1000])  # an outlier of the samples does not change the balls
    assert compute(real, with_outlier)[0] == pytest.approx(density * 50 / 51)


def test_too_few():
    with pytest.raises(ValueError, match="at least 1"):
        ManifoldDensityCoverage(0)
    for real, fake in ((5, 9), (9, 0)):
        with pytest.raises(ValueError, match=f"{real} real images and {fake} samples are too few for 5 neighbours"):
            compute(torch.rand(real, 2), torch.rand(fake, 2))
