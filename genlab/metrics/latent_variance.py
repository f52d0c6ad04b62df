import torch
from torch import Tensor
from torchmetrics import Metric


class LatentVariance(Metric):
    """Population variance of each latent dimension over all codes; at least 0.

    A dimension with nearly zero variance of its mean code is inactive, so that more dimensions with variance are
    better. Sums of values and of squares are kept in float64.

    Args:
        width: Width of the codes.

    Examples:
        >>> metric = LatentVariance(2)
        >>> metric.update(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))
        >>> metric.compute()
        tensor([1., 0.], dtype=torch.float64)
    """

    count: Tensor
    total: Tensor
    squares: Tensor
    full_state_update = False

    def __init__(self, width: int) -> None:
        super().__init__()
        for name, size in (("count", 1), ("total", width), ("squares", width)):
            self.add_state(name, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, codes: Tensor) -> None:
        """Adds codes, N x width."""
        codes = codes.double()
        self.count += len(codes)
        self.total += codes.sum(dim=0)
        self.squares += codes.square().sum(dim=0)

    def compute(self) -> Tensor:
        """Returns the variances, one per dimension."""
        mean = self.total / self.count
        return (self.squares / self.count - mean.square()).clamp(min=0)
