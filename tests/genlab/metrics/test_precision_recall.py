import numpy as np
import pytest
import torch
from torch import Tensor

from genlab.metrics import ManifoldPrecisionRecall
from genlab.metrics import precision_recall as module


def naive(points: np.ndarray, manifold: np.ndarray, k: int) -> float:
    """One pair at a time, as in the paper's algorithm 1."""
    inside = 0
    radii = [sorted(np.linalg.norm(a - b) for b in manifold)[k] for a in manifold]
    for point in points:
        inside += any(np.linalg.norm(point - a) <= radius for a, radius in zip(manifold, radii, strict=True))
    return inside / len(points)


def compute(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    metric = ManifoldPrecisionRecall(k)
    for part in real.split(17):
        metric.update(part, real=True)
    for part in fake.split(13):
        metric.update(part, real=False)
    found = metric.compute()
    return found.precision.item(), found.recall.item()


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("chunk", [10, 1000])
def test_values_equal_a_naive_implementation(k: int, chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(90, 4, generator=generator)
    fake = 0.8 * torch.randn(70, 4, generator=generator) + 0.7
    precision, recall = compute(real, fake, k)
    a, b = real.double().numpy(), fake.double().numpy()
    assert precision == pytest.approx(naive(b, a, k))
    assert recall == pytest.approx(naive(a, b, k))
    assert 0.1 < recall < precision < 1


def test_small_clusters_far_apart():
    """Ten clusters 160 to 230 apart with a spread of 0.01. Distances by a matrix product in float32 give 0.95."""
    random = np.random.default_rng(1)
    centres = 12 * random.standard_normal((10, 128))
    between = [np.linalg.norm(a - b) for i, a in enumerate(centres) for b in centres[:i]]
    assert min(between) > 160 and max(between) < 230
    real, fake = centres[random.integers(10, size=(2, 150))] + 0.01 * random.standard_normal((2, 150, 128))
    found = compute(torch.from_numpy(real).float(), torch.from_numpy(fake).float())
    assert found == pytest.approx((naive(fake, real, 3), naive(real, fake, 3)))


def test_extremes():
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(50, 3, generator=generator)
    assert compute(real, real) == (1, 1)
    assert compute(real, real + 100) == (0, 0)
    precision, recall = compute(real, real[:1].expand(50, -1))
    assert precision == 1 and recall == pytest.approx(1 / 50)
    assert compute(real, torch.full_like(real, torch.nan)) == (0, 0)


def test_a_far_origin_loses_no_digits():
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.rand(2, 60, 3, generator=generator)
    offset = 4096.0  # an exact shift of numbers rounded to 2^-10
    real, fake = ((x * 1024).round() / 1024 for x in (real, fake))
    assert compute(real + offset, fake + offset) == compute(real, fake)


def test_too_few():
    with pytest.raises(ValueError, match="at least 1"):
        ManifoldPrecisionRecall(0)
    with pytest.raises(ValueError, match="are too few for 3 neighbours"):
        compute(torch.rand(3, 2), torch.rand(9, 2))
