import numpy as np
import pytest
import torch
from torch import Tensor

from genlab.metrics import KernelDistance, MeanAndDeviation


def naive(a: np.ndarray, b: np.ndarray) -> float:
    """The unbiased estimate, one pair at a time, over all images."""

    def mean(x: np.ndarray, y: np.ndarray, same: bool) -> float:
        pairs = [(p, q) for i, p in enumerate(x) for j, q in enumerate(y) if not (same and i == j)]
        return float(np.mean([(p @ q / len(p) + 1) ** 3 for p, q in pairs]))

    return mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)


def compute(real: Tensor, fake: Tensor, **options: int) -> MeanAndDeviation:
    metric = KernelDistance(**options)
    for part in real.split(17):
        metric.update(part, real=True)
    for part in fake.split(13):
        metric.update(part, real=False)
    return metric.compute()


def test_value_of_all_images_equals_a_naive_implementation():
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(30, 4, generator=generator), 1.5 * torch.randn(30, 4, generator=generator) + 1
    found = compute(real, fake, subsets=2, subset_size=30)
    assert found.mean.item() == pytest.approx(naive(real.double().numpy(), fake.double().numpy()))
    assert found.deviation.item() == pytest.approx(0, abs=1e-9)


def test_subsets_are_those_of_the_seed_and_estimate_the_value_of_all():
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(80, 4, generator=generator), torch.randn(60, 4, generator=generator) + 1
    state = torch.get_rng_state()
    found = compute(real, fake, subsets=400)
    assert torch.equal(torch.get_rng_state(), state)
    expected, deviation = naive(real.double().numpy(), fake.double().numpy()), found.deviation.item()
    assert found.mean.item() == pytest.approx(expected, abs=deviation / 4) and deviation > 0.1
    assert found == compute(real, fake, subsets=400) != compute(real, fake, subsets=400, seed=1)


def test_equal_distributions_are_about_zero_apart_and_too_few_are_refused():
    draws = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    found = compute(draws[:200], draws[200:])
    assert abs(found.mean) < found.deviation
    with pytest.raises(ValueError, match="200 real images and 3 samples are too few"):
        compute(draws[:200], draws[:3])
