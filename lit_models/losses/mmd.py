"""Maximum mean discrepancy between two distributions, estimated from samples."""

from typing import Literal

import torch
from torch import Tensor

KernelKind = Literal["imq", "rbf"]

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def kernel_matrix(kind: KernelKind, x: Tensor, y: Tensor, variance: float = 1.0) -> Tensor:
    """Returns k(x_i, y_j), a sum over seven widths C = 2 d variance s with s = 0.1, 0.2, 0.5, 1, 2, 5, 10.

    - imq: inverse multiquadratic, C / (C + |x - y|^2), whose heavy tails also reach distant codes (Tolstikhin et al.
      2017, arXiv 1711.01558, and the scales of their code).
    - rbf: exp(-|x - y|^2 / C).

    2 d variance is the mean squared distance of two draws of N(0, variance I).

    Args:
        kind: Kind of the kernel.
        x: m x d.
        y: n x d.
        variance: Variance of the coordinates, which sets the widths.

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
    """Returns an unbiased estimate of MMD^2 between the distributions of x and y; it can be negative if they are equal.

    sum_{i != j} k(x_i, x_j) / (m (m - 1)) + sum_{i != j} k(y_i, y_j) / (n (n - 1)) - 2 sum_{i, j} k(x_i, y_j) / (m n)
    (Gretton et al. 2012, JMLR 13, eq. 3).

    Args:
        kind: Kind of the kernel.
        x: m x d, m at least 2.
        y: n x d, n at least 2.
        variance: Variance of the coordinates, which sets the widths of the kernel.

    Returns:
        A scalar.

    Raises:
        ValueError: x or y has fewer than two draws.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(
            f"the number of draws is {len(x)} of x and {len(y)} of y; the unbiased MMD needs at least 2 of each"
        )
    across = kernel_matrix(kind, x, y, variance).mean()
    return _mean_of_pairs(kind, x, variance) + _mean_of_pairs(kind, y, variance) - 2 * across


def _mean_of_pairs(kind: KernelKind, x: Tensor, variance: float) -> Tensor:
    """Returns the mean of k(x_i, x_j) over i != j."""
    n = len(x)
    return (kernel_matrix(kind, x, x, variance).sum() - n * len(SCALES)) / (n * (n - 1))  # k(x, x) is 1 at each scale
