from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


class Coverage(NamedTuple):
    """How samples are spread over the modes."""

    modes: Tensor
    """Modes that have at least one sample."""
    kl: Tensor
    """KL(samples || uniform) over the modes in nats, from 0 to log K, which it also is where nothing was counted."""
    counts: Tensor
    """Samples in each mode, int64, K."""


class ModeCoverage(Metric):
    """Counts the modes that samples fall into, and how far their shares p are from equal ones.

    KL(p || uniform) = sum_k p_k log(K p_k), by the samples' own shares (Srivastava et al. 2017, arXiv 1705.07761; Lin
    et al. 2018, arXiv 1712.04086). N samples of the uniform law itself have about (K - 1) / (2 N).

    Args:
        num_modes: how many modes K there are.

    Raises:
        ValueError: fewer than one mode.
    """

    full_state_update = False
    is_differentiable = False

    counts: Tensor

    def __init__(self, num_modes: int) -> None:
        super().__init__()
        if num_modes < 1:
            raise ValueError(f"{num_modes} modes cannot be covered; there must be at least one")
        self.add_state("counts", torch.zeros(num_modes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, modes: Tensor) -> None:
        """modes: the mode of each sample, int64, N, in 0..K-1; a negative number is in none and is not counted."""
        self.counts.scatter_add_(0, modes.clamp(min=0), (modes >= 0).long())

    def compute(self) -> Coverage:
        shares = self.counts.double() / self.counts.sum().clamp(min=1)
        kl = torch.xlogy(shares, shares * len(shares)).sum()
        kl = torch.where(self.counts.sum() > 0, kl, torch.tensor(float(len(shares))).log()).clamp(min=0)
        return Coverage((self.counts > 0).sum(), kl.float(), self.counts)
