from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


class Correlation(NamedTuple):
    """Pearson correlations between latent dimensions."""

    abs_correlation: Tensor
    """Mean absolute correlation of different dimensions, in [0, 1]; 0 if there is only one dimension."""
    abs_correlation_full: Tensor
    """Mean absolute value of the whole matrix, in [1 / d, 1]; the diagonal of ones contributes 1 / d."""
    matrix: Tensor
    """The correlation matrix, d x d, with signs."""


class LatentCorrelation(Metric):
    """Mean absolute Pearson correlation between latent dimensions, in [0, 1], and their matrix; lower is better.

    The result is exact over batches and ranks: means and scatter are kept in float64 and merged exactly, so that codes
    far from zero lose no digits. A constant dimension has correlation 0 with the others and 1 with itself.

    Args:
        latent_dim: Width d of the codes.

    Raises:
        ValueError: From `update`: codes have another width. From `compute`: there are fewer than two codes.

    Examples:
        >>> metric = LatentCorrelation(2)
        >>> metric.update(torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]))
        >>> round(float(metric.compute().abs_correlation), 6)
        1.0
    """

    full_state_update = True
    is_differentiable = False

    count: Tensor
    mean: Tensor
    scatter: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        # Each rank has its own mean, so the states are stacked and merged in compute.
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx=None)
        self.add_state("mean", torch.zeros(latent_dim, dtype=torch.float64), dist_reduce_fx=None)
        self.add_state("scatter", torch.zeros(latent_dim, latent_dim, dtype=torch.float64), dist_reduce_fx=None)

    def update(self, codes: Tensor) -> None:
        """Adds codes, N x d."""
        if codes.ndim != 2 or codes.shape[1] != self.latent_dim:
            raise ValueError(f"codes are {tuple(codes.shape)}; give N x {self.latent_dim}")
        if len(codes) == 0:
            return
        codes = codes.detach().double()
        mean = codes.mean(dim=0)
        centred = codes - mean
        batch = (codes.new_tensor(float(len(codes))), mean, centred.T @ centred)
        self.count, self.mean, self.scatter = _merge((self.count, self.mean, self.scatter), batch)

    def compute(self) -> Correlation:
        count, mean, scatter = self.count, self.mean, self.scatter
        if count.ndim:  # gathered from the ranks, one row each
            parts = list(zip(count, mean, scatter, strict=True))
            count, mean, scatter = parts[0]
            for part in parts[1:]:
                count, mean, scatter = _merge((count, mean, scatter), part)
        if count < 2:
            raise ValueError(f"a correlation needs at least two codes, and {int(count)} were added")
        spread = scatter.diagonal().sqrt()
        constant = spread <= 1e-12 * count.sqrt() * mean.abs().clamp(min=1e-12)
        scale = torch.where(constant, torch.ones_like(spread), spread)
        matrix = scatter / (scale[:, None] * scale[None, :])
        matrix = torch.where(constant[:, None] | constant[None, :], torch.zeros_like(matrix), matrix)
        matrix.fill_diagonal_(1).clamp_(-1, 1)
        d = self.latent_dim
        total = matrix.abs().sum()
        return Correlation((total - d) / max(d * (d - 1), 1), total / d**2, matrix)


State = tuple[Tensor, Tensor, Tensor]


def _merge(a: State, b: State) -> State:
    """Merges count, mean and scatter of two sets (Chan, Golub and LeVeque 1979, eq. 2.1)."""
    (count_a, mean_a, scatter_a), (count_b, mean_b, scatter_b) = a, b
    count = (count_a + count_b).clamp(min=1)
    step = mean_b - mean_a
    mean = mean_a + step * (count_b / count)
    scatter = scatter_a + scatter_b + torch.outer(step, step) * (count_a * count_b / count)
    return count_a + count_b, mean, scatter
