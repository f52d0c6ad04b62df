"""A test of whether two samples have the same distribution."""

import torch
from torch import Tensor

WIDTHS = (0.125, 0.25, 0.5, 1.0)
"""Kernel widths in units of the median distance. Smaller ones also detect differences beyond mean and spread."""


@torch.no_grad()
def permutation_test(a: Tensor, b: Tensor, permutations: int = 1000, seed: int = 0) -> float:
    """Returns the p-value, in (0, 1], of a permutation test of whether a and b have the same distribution.

    The statistic is based on the unbiased MMD^2 (Gretton et al. 2012, JMLR 13, eq. 3) with k(x, y) = exp(-|x - y|^2 / 2
    s^2), where s is one of `WIDTHS` times the median distance of all pairs of both samples. It is the maximum over the
    widths, each divided by its standard deviation over the permutations (Schrab et al. 2023, arXiv 2110.15073, combine
    widths by quantiles instead). p = (1 + number of permutations with at least this statistic) / (1 + permutations) is
    valid for all sample sizes: if the distributions are equal, p is below a level at most with that probability
    (Phipson and Smyth 2010, arXiv 1603.05766).

    Args:
        a: m x d, independent draws, m at least 2. Memory grows as (m + n)(m + n + permutations).
        b: n x d, independent draws, n at least 2.
        permutations: Number of permutations; the smallest possible p-value is 1 / (1 + permutations).
        seed: Seed of the permutations.

    Raises:
        ValueError: A sample has fewer than two draws, the widths differ, a value is not finite, or there is no
            permutation.

    Examples:
        >>> draws = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
        >>> permutation_test(draws[:20], draws[20:] + 5, permutations=99)
        0.01
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"samples are {list(a.shape)} and {list(b.shape)}; give m x d and n x d with m and n at least 2"
        )
    if permutations < 1:
        raise ValueError(f"permutations is {permutations}; give at least 1")
    draws = torch.cat([a, b]).double()
    if not draws.isfinite().all():
        raise ValueError("a or b has a value that is not finite")
    random = torch.Generator().manual_seed(seed)
    permuted = torch.rand(permutations, len(draws), generator=random).argsort(dim=1) < len(a)
    first = torch.cat([torch.arange(len(draws))[None] < len(a), permuted]).to(draws)  # (1 + permutations, m + n)
    squares = torch.cdist(draws, draws, compute_mode="donot_use_mm_for_euclid_dist").square()
    median = torch.pdist(draws).median().square().clamp(min=1e-200)  # stays a normal number after division
    each = torch.stack([_mmd_of_splits(torch.exp(-squares / (2 * median * width**2)), first) for width in WIDTHS])
    found = (each / each.std(dim=1, keepdim=True).clamp(min=1e-9)).amax(dim=0)
    return float((found >= found[0] - 1e-6).double().mean())  # equal statistics may differ by rounding


def _mmd_of_splits(kernel: Tensor, first: Tensor) -> Tensor:
    """Returns MMD^2 between the draws of the first sample and the rest, for each row of `first` (1 and 0)."""
    kernel = kernel.fill_diagonal_(0)
    m = first[0].sum()
    n = len(kernel) - m
    inner = ((first @ kernel) * first).sum(dim=1)
    to_all = first @ kernel.sum(dim=1)
    across = to_all - inner
    rest = kernel.sum() - to_all - across
    return inner / (m * (m - 1)) + rest / (n * (n - 1)) - 2 * across / (m * n)
