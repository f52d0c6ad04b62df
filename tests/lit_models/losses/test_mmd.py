import math

import numpy as np
import pytest
import torch

from lit_models.losses.mmd import SCALES, kernel_matrix, mmd

KINDS = ["imq", "rbf"]


def by_loops(kind: str, x: np.ndarray, y: np.ndarray, variance: float) -> float:
    """Gretton et al. 2012, eq. 3, term by term."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        total, distance = 0.0, float(np.sum((a - b) ** 2))
        for scale in (0.1, 0.2, 0.5, 1, 2, 5, 10):
            width = 2 * len(a) * variance * scale
            total += width / (width + distance) if kind == "imq" else math.exp(-distance / width)
        return total

    m, n = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_y = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    across = sum(k(x[i], y[j]) for i in range(m) for j in range(n)) / (m * n)
    return within_x + within_y - 2 * across


def between_gaussians(d: int, mean: float, spread: float) -> float:
    """MMD^2 of N(0, I) and N(mean, spread^2 I) in d dimensions by the rbf kernel.

    A difference of two draws is N(m, v) in each dimension; E exp(-u^2 / C) = exp(-m^2 / (C + 2v)) / sqrt(1 + 2v / C).
    """

    def expected(m: float, v: float) -> float:
        widths = (2 * d * scale for scale in SCALES)
        return sum((math.exp(-m * m / (width + 2 * v)) / math.sqrt(1 + 2 * v / width)) ** d for width in widths)

    return expected(0, 2) + expected(0, 2 * spread**2) - 2 * expected(mean, 1 + spread**2)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("variance", [1.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_mmd_equals_a_double_loop(kind: str, variance: float):
    x, y = torch.randn(7, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64) + 0.5
    assert mmd(kind, x, y, variance).item() == pytest.approx(by_loops(kind, x.numpy(), y.numpy(), variance), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_is_enough(kind: str):
    x, y = torch.randn(256, 20, dtype=torch.float64), torch.randn(256, 20, dtype=torch.float64)
    assert mmd(kind, x.float(), y.float()).item() == pytest.approx(mmd(kind, x, y).item(), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_mmd_is_zero_on_average_for_equal_distributions(kind: str):
    """600 draws; false alarm beyond 4.5 standard errors, 7 in a million. The biased estimate is 30 of them above."""
    found = torch.stack([mmd(kind, torch.randn(8, 2), torch.randn(8, 2)) for _ in range(600)])
    assert abs(found.mean()) < 4.5 * found.std() / math.sqrt(len(found))
    biased = found.mean() + (2 / 8) * (len(SCALES) - kernel_matrix(kind, *torch.randn(2, 1000, 2)).mean())
    assert biased > 30 * found.std() / math.sqrt(len(found))


@pytest.mark.parametrize(("mean", "spread"), [(0.5, 1.0), (0.0, 0.5), (0.3, 1.5)])
def test_rbf_between_gaussians_equals_the_closed_form(mean: float, spread: float):
    """400 draws; false alarm beyond 4.5 standard errors, 7 in a million."""
    found = torch.stack([mmd("rbf", torch.randn(40, 3), mean + spread * torch.randn(30, 3)) for _ in range(400)])
    assert abs(found.mean() - between_gaussians(3, mean, spread)) < 4.5 * found.std() / math.sqrt(len(found))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", ["shifted", "narrow", "flat", "one_point"])
def test_different_distributions_are_detected(kind: str, other: str):
    x = torch.randn(500, 5)
    y = {
        "shifted": torch.randn(500, 5) + 0.3,
        "narrow": 0.7 * torch.randn(500, 5),
        "flat": torch.randn(500, 5) * torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]),
        "one_point": torch.zeros(500, 5),
    }[other]
    equal = torch.stack([mmd(kind, torch.randn(500, 5), torch.randn(500, 5)) for _ in range(20)])
    assert mmd(kind, x, y) > equal.abs().max() and mmd(kind, x, y) > 5 * equal.std()


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_right_for_equal_draws_too(kind: str):
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: mmd(kind, x, y), x.clone().requires_grad_())  # type: ignore[arg-type]
    same = torch.zeros(4, 3, requires_grad=True)
    mmd(kind, same, y.float()).backward()
    assert same.grad is not None and torch.isfinite(same.grad).all() and same.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_codes_are_computed_in_single_precision(kind: str):
    x, y = torch.randn(64, 20).bfloat16(), torch.randn(64, 20)
    with torch.autocast("cpu", torch.bfloat16):
        found = mmd(kind, x, y)
    assert found.dtype == torch.float32 and found == mmd(kind, x.float(), y)


def test_fewer_than_two_draws_are_refused():
    with pytest.raises(ValueError, match="number of draws is 1 of x and 3 of y; the unbiased MMD needs at least 2"):
        mmd("imq", torch.zeros(1, 2), torch.zeros(3, 2))
