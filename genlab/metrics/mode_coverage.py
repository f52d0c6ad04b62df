from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


class Coverage(NamedTuple):
    """How samples are distributed over the modes."""

    modes: Tensor
    """Number of modes with at least one sample, from 0 to K; higher is better."""
    kl: Tensor
    """KL(samples || uniform) over the modes in nats, from 0 to log K; lower is better. log K if nothing was counted."""
    counts: Tensor
    """Number of samples in each mode, int64, K."""


class ModeCoverage(Metric):
    """Number of modes that have samples, and the KL divergence of the samples from a uniform distribution over modes.

    KL(p || uniform) = sum_k p_k log(K p_k) with the shares p_k of the samples (Srivastava et al. 2017, arXiv
    1705.07761; Lin et al. 2018, arXiv 1712.04086). More modes and a lower divergence are better. N samples of the
    uniform distribution itself have a divergence of about (K - 1) / (2 N).

    Args:
        num_modes: Number of modes K.

    Raises:
        ValueError: `num_modes` is below 1.

    Examples:
        >>> metric = ModeCoverage(10)
        >>> metric.update(torch.tensor([0, 0, 3, 7]))
        >>> metric.compute().modes
        tensor(3)
    """

    full_state_update = False
    is_differentiable = False

    counts: Tensor

    def __init__(self, num_modes: int) -> None:
        super().__init__()
        if num_modes < 1:
            raise ValueError(f"num_modes is {num_modes}; give at least 1")
        self.add_state("counts", torch.zeros(num_modes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, modes: Tensor) -> None:
        """Adds the mode of each sample, int64, N, from 0 to K-1; negative numbers are not counted."""
        self.counts.scatter_add_(0, modes.clamp(min=0), (modes >= 0).long())

    def compute(self) -> Coverage:
        shares = self.counts.double() / self.counts.sum().clamp(min=1)
        kl = torch.xlogy(shares, shares * len(shares)).sum()
        kl = torch.where(self.counts.sum() > 0, kl, torch.tensor(float(len(shares))).log()).clamp(min=0)
        return Coverage((self.counts > 0).sum(), kl.float(), self.counts)
