import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, kstest

from genlab.metrics.two_sample import permutation_test


def draws(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def by_loops(a: np.ndarray, b: np.ndarray, dealt: np.ndarray) -> float:
    """The p-value, with Gretton et al. 2012, eq. 3, pair by pair, for each way to deal and each width."""
    pooled = np.concatenate([a, b])
    n = len(pooled)
    distances = np.array([[np.linalg.norm(x - y) for y in pooled] for x in pooled])
    pairs = sorted(distances[i, j] for i in range(n) for j in range(i))
    median = pairs[(len(pairs) - 1) // 2]

    def mean(first: list[int], second: list[int], s: float) -> float:
        values = [math.exp(-(distances[i, j] ** 2) / (2 * s * s)) for i in first for j in second if i != j]
        return sum(values) / len(values)

    def mmd(inside: np.ndarray, s: float) -> float:
        p, q = [i for i in range(n) if inside[i]], [i for i in range(n) if not inside[i]]
        return mean(p, p, s) + mean(q, q, s) - 2 * mean(p, q, s)

    deals = [np.arange(n) < len(a), *dealt]
    each = np.array([[mmd(inside, width * median) for inside in deals] for width in (1 / 8, 1 / 4, 1 / 2, 1)])
    largest = (each / each.std(axis=1, ddof=1, keepdims=True)).max(axis=0)
    return (largest >= largest[0] - 1e-6).mean()


def test_p_value_equals_a_double_loop():
    for seed in range(3):
        a, b = draws(7, 2, seed), draws(5, 2, seed + 50) + 0.5
        dealt = torch.rand(60, 12, generator=torch.Generator().manual_seed(4)).argsort(dim=1) < 7
        expected = by_loops(a.double().numpy(), b.double().numpy(), dealt.numpy())
        assert permutation_test(a, b, permutations=60, seed=4) == pytest.approx(expected, abs=1e-12)


def test_the_level_is_valid():
    """For 400 pairs of equal distribution rejections at 0.05 are binomial, p-values uniform on 1/200, 2/200, ..., 1.

    Both at 10^-4, their false alarms; the Kolmogorov-Smirnov distance allows for the steps of 1/200.
    """
    found = np.array([permutation_test(draws(30, 2, i), draws(40, 2, 1000 + i), 199, seed=i) for i in range(400)])
    assert binom.ppf(5e-5, 400, 0.05) <= (found <= 0.05).sum() <= binom.ppf(1 - 5e-5, 400, 0.05)
    spread = found - np.random.default_rng(0).uniform(0, 1 / 200, 400)
    assert kstest(spread, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("change", ["mean", "spread", "dependence", "tails", "gaps"])
def test_different_distributions_are_detected(change: str):
    """Of 500 draws each; the least p-value of 1,000 permutations."""
    a, b = draws(500, 2, 0), draws(500, 2, 1)
    other = {
        "mean": b + 0.3,
        "spread": 1.4 * b,
        "dependence": torch.stack([b[:, 0], 0.8 * b[:, 0] + 0.6 * b[:, 1]], dim=1),
        "tails": b / draws(500, 2, 2).abs().clamp(min=0.1),
        "gaps": torch.where(b.frac().abs() > 0.5, b, b + 0.5 * b.sign()),  # mean and spread hardly change
    }[change]
    assert permutation_test(a, other) == pytest.approx(1 / 1001)


def test_samples_of_few_values_and_of_one():
    """At 0.01, its false alarm."""
    coins = [draws(200, 1, seed).sign() for seed in (0, 1)]
    assert permutation_test(*coins) > 0.01
    assert permutation_test(coins[0], (draws(200, 1, 2) + 0.5).sign()) < 0.01
    torch.set_flush_denormal(True)  # as train.py does, which must not make 0 / 0 of equal draws
    assert permutation_test(torch.ones(20, 2), torch.ones(30, 2)) == 1
    assert permutation_test(torch.ones(20, 2), torch.zeros(30, 2), 999) == pytest.approx(1 / 1000)


def test_units_do_not_matter_and_the_seed_does():
    a, b = draws(50, 3, 0), draws(60, 3, 1) + 0.2
    p = permutation_test(a, b, 200, seed=1)
    assert permutation_test(4096 * a, 4096 * b, 200, seed=1) == p == permutation_test(a, b, 200, seed=1)
    assert len({permutation_test(a, b, 200, seed) for seed in range(5)}) > 1
    state = torch.get_rng_state()
    permutation_test(a, b, 10)
    assert torch.equal(torch.get_rng_state(), state)


def test_samples_that_cannot_be_compared_are_refused():
    for a, b in ((torch.zeros(1, 2), torch.zeros(5, 2)), (torch.zeros(5, 2), torch.zeros(5, 3)), (torch.zeros(5),) * 2):
        with pytest.raises(ValueError, match="m and n at least 2"):
            permutation_test(a, b)
    with pytest.raises(ValueError, match="not finite"):
        permutation_test(torch.full((5, 2), math.nan), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="permutations is 0"):
        permutation_test(torch.zeros(5, 2), torch.zeros(5, 2), 0)
