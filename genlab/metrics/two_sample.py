"""Whether two samples are draws of one law."""

import torch
from torch import Tensor

WIDTHS = (0.125, 0.25, 0.5, 1.0)
"""Of the kernels, in units of the median distance, which alone sees little but differences in mean and spread."""


@torch.no_grad()
def permutation_test(a: Tensor, b: Tensor, permutations: int = 1000, seed: int = 0) -> float:
    """p-value of the hypothesis that a and b are draws of one law, by the MMD between them.

    MMD^2 without bias (Gretton et al. 2012, JMLR 13, eq. 3) with k(x, y) = exp(-|x - y|^2 / 2 s^2), s being `WIDTHS`
    times the median distance of all pairs of both samples. The statistic is the largest over the widths, each in units
    of its standard deviation over the permutations; Schrab et al. 2023, arXiv 2110.15073, combine widths by their
    quantiles instead. Under the hypothesis the draws could as well have been dealt to the two samples in any other way,
    so that p = (1 + as large or larger ones) / (1 + permutations) is at most a level with no more than that
    probability, whatever the samples' sizes (Phipson and Smyth 2010, arXiv 1603.05766).

    Args:
        a, b: m x d and n x d, independent draws; m and n at least 2. Memory grows as (m + n)(m + n + permutations).
        permutations: how often they are dealt; the least p-value is 1 / (1 + permutations).
        seed: of the permutations.

    Raises:
        ValueError: fewer than two draws of either, draws of different widths or that are not finite, or no permutation.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"two samples, m x d and n x d, of at least 2 draws, not {list(a.shape)} and {list(b.shape)}")
    if permutations < 1:
        raise ValueError(f"permutations is {permutations}; it must be at least 1")
    draws = torch.cat([a, b]).double()
    if not draws.isfinite().all():
        raise ValueError("a draw is not finite")
    random = torch.Generator().manual_seed(seed)
    dealt = torch.rand(permutations, len(draws), generator=random).argsort(dim=1) < len(a)
    first = torch.cat([torch.arange(len(draws))[None] < len(a), dealt]).to(draws)  # (1 + permutations, m + n)
    squares = torch.cdist(draws, draws, compute_mode="donot_use_mm_for_euclid_dist").square()
    median = torch.pdist(draws).median().square().clamp(min=1e-200)  # and still normal when divided
    each = torch.stack([_mmd_of_splits(torch.exp(-squares / (2 * median * width**2)), first) for width in WIDTHS])
    found = (each / each.std(dim=1, keepdim=True).clamp(min=1e-9)).amax(dim=0)
    return float((found >= found[0] - 1e-6).double().mean())  # equal ones may be rounded apart


def _mmd_of_splits(kernel: Tensor, first: Tensor) -> Tensor:
    """MMD^2 between the draws that are in the first sample and the rest, for each row of `first`, ones and zeros."""
    kernel = kernel.fill_diagonal_(0)
    m = first[0].sum()
    n = len(kernel) - m
    inner = ((first @ kernel) * first).sum(dim=1)
    to_all = first @ kernel.sum(dim=1)
    across = to_all - inner
    rest = kernel.sum() - to_all - across
    return inner / (m * (m - 1)) + rest / (n * (n - 1)) - 2 * across / (m * n)
