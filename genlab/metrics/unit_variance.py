import torch
from torch import Tensor
from torchmetrics import Metric


class UnitVariance(Metric):
    """Variance of each column of codes over all images, in one pass: sums of values and of squares in float64."""

    count: Tensor
    total: Tensor
    squares: Tensor
    full_state_update = False

    def __init__(self, width: int) -> None:
        super().__init__()
        for name, size in (("count", 1), ("total", width), ("squares", width)):
            self.add_state(name, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, codes: Tensor) -> None:
        """codes: N x width."""
        codes = codes.double()
        self.count += len(codes)
        self.total += codes.sum(dim=0)
        self.squares += codes.square().sum(dim=0)

    def compute(self) -> Tensor:
        """Variances, width, of the population."""
        mean = self.total / self.count
        return (self.squares / self.count - mean.square()).clamp(min=0)
