import math

import pytest
import torch

from genlab.metrics import ModeCoverage


def coverage(modes: list[int], k: int) -> tuple[int, float]:
    metric = ModeCoverage(k)
    for mode in modes:
        metric.update(torch.tensor([mode]))
    found = metric.compute()
    return int(found.modes), float(found.kl)


@pytest.mark.parametrize(
    ("modes", "k", "covered", "kl"),
    [
        ([0, 1, 2, 3], 4, 4, 0.0),
        ([2] * 9, 10, 1, math.log(10)),
        ([0, 0, 0, 1], 2, 2, 0.75 * math.log(1.5) + 0.25 * math.log(0.5)),
        ([0, 1, 0, 1], 8, 2, math.log(4)),
        ([-1, 1, -1], 3, 1, math.log(3)),
        ([-1], 3, 0, math.log(3)),
        ([0], 1, 1, 0.0),
    ],
)
def test_closed_forms(modes: list[int], k: int, covered: int, kl: float):
    found = coverage(modes, k)
    assert found[0] == covered
    assert found[1] == pytest.approx(kl, abs=1e-6)


def test_uniform_samples_have_the_expected_divergence():
    """2 N KL is about chi-squared of K - 1; five standard deviations: a false alarm in a million seeds."""
    k, n = 1000, 26000
    metric = ModeCoverage(k)
    metric.update(torch.randint(k, (n,), generator=torch.Generator().manual_seed(0)))
    assert metric.compute().kl.item() == pytest.approx((k - 1) / (2 * n), abs=5 * math.sqrt(2 * (k - 1)) / (2 * n))


def test_counts_and_reset():
    metric = ModeCoverage(3)
    metric.update(torch.tensor([2, 2, 0]))
    assert metric.compute().counts.tolist() == [1, 0, 2]
    metric.reset()
    assert metric.counts.tolist() == [0, 0, 0]


def test_no_modes():
    with pytest.raises(ValueError, match="num_modes is 0; give at least 1"):
        ModeCoverage(0)
