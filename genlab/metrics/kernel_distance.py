import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance


class MeanAndDeviation(NamedTuple):
    """A value over random subsets."""

    mean: Tensor
    deviation: Tensor
    """Standard deviation from subset to subset."""


class KernelDistance(KernelInceptionDistance):
    """Squared maximum mean discrepancy of two sets of features, N x F; lower is better.

    The unbiased estimate of MMD^2 with the kernel k(x, y) = (x . y / F + 1)^3, as KID is by Inception's features
    (Binkowski et al. 2018, arXiv 1801.01401, sec. 4): mean and deviation over random subsets. As it is unbiased, it is
    about 0 for equal distributions, may be negative, and compares sets of different sizes. It is computed in float64.

    Args:
        subsets: Number of random subsets.
        subset_size: Images of each set in a subset; half of the smaller set where that has fewer.
        seed: Seed of the subsets.

    Raises:
        ValueError: From `compute`: a set has fewer than 4 features.

    Examples:
        >>> metric = KernelDistance(subsets=10)
        >>> features = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> metric.update(features[:100], real=True)
        >>> metric.update(features[100:] + 3, real=False)
        >>> bool(metric.compute().mean > 10)
        True
    """

    def __init__(self, subsets: int = 100, subset_size: int = 1000, seed: int = 0) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its memory, which is that of the features
            super().__init__(feature=nn.Identity(), subsets=subsets, subset_size=subset_size)
        self.most = subset_size
        self.seed = seed

    def update(self, features: Tensor, real: bool) -> None:
        """Adds features, N x F, of real images or of samples."""
        super().update(features.detach().double(), real)

    def compute(self) -> MeanAndDeviation:
        counts = [sum(map(len, parts)) for parts in (self.real_features, self.fake_features)]
        if min(counts) < 4:
            raise ValueError(f"{counts[0]} real images and {counts[1]} samples are too few; give at least 4 of each")
        self.subset_size = self.most if min(counts) >= self.most else min(counts) // 2
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return MeanAndDeviation(*super().compute())
