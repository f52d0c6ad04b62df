from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


class Correlation(NamedTuple):
    """Mean absolute Pearson correlation between latent dimensions, in [0, 1], and the matrix itself."""

    abs_correlation: Tensor
    """Mean over pairs of different dimensions; 0 where there is one dimension only."""
    abs_correlation_full: Tensor
    """Mean over the whole matrix, whose diagonal of ones alone contributes 1 / d."""
    matrix: Tensor
    """d x d, signed."""


class LatentCorrelation(Metric):
    """Pearson correlation matrix of latent codes, exact over batches and over ranks.

    Means and scatter are kept in float64 and merged exactly, so that codes far from zero lose no digits. A dimension
    that never changes has no correlation: it counts as 0 with the others and 1 with itself.

    Args:
        latent_dim: width d of the codes.

    Raises:
        ValueError: from `update` for codes of another width; from `compute` for fewer than two codes.
    """

    full_state_update = True
    is_differentiable = False

    count: Tensor
    mean: Tensor
    scatter: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        # Ranks have means of their own, so their states are stacked and merged in compute.
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx=None)
        self.add_state("mean", torch.zeros(latent_dim, dtype=torch.float64), dist_reduce_fx=None)
        self.add_state("scatter", torch.zeros(latent_dim, latent_dim, dtype=torch.float64), dist_reduce_fx=None)

    def update(self, codes: Tensor) -> None:
        """codes: N x d."""
        if codes.ndim != 2 or codes.shape[1] != self.latent_dim:
            raise ValueError(f"codes are {tuple(codes.shape)}, not N x {self.latent_dim}")
        if len(codes) == 0:
            return
        codes = codes.detach().double()
        mean = codes.mean(dim=0)
        centred = codes - mean
        batch = (codes.new_tensor(float(len(codes))), mean, centred.T @ centred)
        self.count, self.mean, self.scatter = _merge((self.count, self.mean, self.scatter), batch)

    def compute(self) -> Correlation:
        count, mean, scatter = self.count, self.mean, self.scatter
        if count.ndim:  # gathered over ranks: one row each
            parts = list(zip(count, mean, scatter, strict=True))
            count, mean, scatter = parts[0]
            for part in parts[1:]:
                count, mean, scatter = _merge((count, mean, scatter), part)
        if count < 2:
            raise ValueError("a correlation needs at least two codes")
        spread = scatter.diagonal().sqrt()
        dead = spread <= 1e-12 * count.sqrt() * mean.abs().clamp(min=1e-12)
        scale = torch.where(dead, torch.ones_like(spread), spread)
        matrix = scatter / (scale[:, None] * scale[None, :])
        matrix = torch.where(dead[:, None] | dead[None, :], torch.zeros_like(matrix), matrix)
        matrix.fill_diagonal_(1).clamp_(-1, 1)
        d = self.latent_dim
        total = matrix.abs().sum()
        return Correlation((total - d) / max(d * (d - 1), 1), total / d**2, matrix)


State = tuple[Tensor, Tensor, Tensor]


def _merge(a: State, b: State) -> State:
    """Count, mean and scatter of two sets together (Chan, Golub and LeVeque 1979, eq. 2.1)."""
    (count_a, mean_a, scatter_a), (count_b, mean_b, scatter_b) = a, b
    count = (count_a + count_b).clamp(min=1)
    step = mean_b - mean_a
    mean = mean_a + step * (count_b / count)
    scatter = scatter_a + scatter_b + torch.outer(step, step) * (count_a * count_b / count)
    return count_a + count_b, mean, scatter
