"""How far two laws are from one another, told from draws of both."""

from typing import Literal

import torch
from torch import Tensor

KernelKind = Literal["imq", "rbf"]

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def kernel_matrix(kind: KernelKind, x: Tensor, y: Tensor, variance: float = 1.0) -> Tensor:
    """k(x_i, y_j), a sum over seven widths C = 2 d variance s, s = 0.1, 0.2, 0.5, 1, 2, 5, 10.

    - imq: C / (C + |x - y|^2), whose tails reach codes that are far out (Tolstikhin et al. 2017, arXiv 1711.01558, and
      the scales of their program).
    - rbf: exp(-|x - y|^2 / C).

    2 d variance is the mean squared distance of two draws of N(0, variance I).

    Args:
        x, y: m x d and n x d.

    Returns:
        m x n, at least float32.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    distances = torch.cdist(x.to(wide), y.to(wide), compute_mode="donot_use_mm_for_euclid_dist").square()
    widths = [2 * x.shape[1] * variance * scale for scale in SCALES]
    if kind == "imq":
        return torch.stack([width / (width + distances) for width in widths]).sum(dim=0)
    return torch.stack([torch.exp(-distances / width) for width in widths]).sum(dim=0)


def mmd(kind: KernelKind, x: Tensor, y: Tensor, variance: float = 1.0) -> Tensor:
    """MMD^2 of the laws of x and y without bias, so that it is below zero half of the time when they are equal.

    sum_{i != j} k(x_i, x_j) / (m (m - 1)) + sum_{i != j} k(y_i, y_j) / (n (n - 1)) - 2 sum_{i, j} k(x_i, y_j) / (m n)
    (Gretton et al. 2012, JMLR 13, eq. 3).

    Args:
        x, y: m x d and n x d; m and n at least 2.
        variance: of a draw's coordinates, which sets the kernel's widths.

    Returns:
        A scalar.

    Raises:
        ValueError: fewer than two draws of either.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"MMD without bias needs at least 2 draws of each law, not {len(x)} and {len(y)}")
    across = kernel_matrix(kind, x, y, variance).mean()
    return _mean_of_pairs(kind, x, variance) + _mean_of_pairs(kind, y, variance) - 2 * across


def _mean_of_pairs(kind: KernelKind, x: Tensor, variance: float) -> Tensor:
    """The mean of k(x_i, x_j) over i != j."""
    n = len(x)
    return (kernel_matrix(kind, x, x, variance).sum() - n * len(SCALES)) / (n * (n - 1))  # k(x, x) is 1 at each scale
