from typing import NamedTuple

import torch
from torch import Tensor

from genlab.metrics.feature_sets import FeatureSets
from genlab.metrics.precision_recall import CHUNK, distances, neighbour_distances


class DensityCoverage(NamedTuple):
    """Density and coverage of samples; higher is better."""

    density: Tensor
    """How many balls around real images a sample is in, relative to k: fidelity. At least 0, near 1 for real images."""
    coverage: Tensor
    """Share of the real images with a sample in their ball, in [0, 1]: diversity."""


class ManifoldDensityCoverage(FeatureSets):
    """Density and coverage of samples by nearest neighbours in feature space; higher is better.

    Naeem et al. 2020, arXiv 2002.09797, eq. 4 and 5, with real images x_1 .. x_N, samples y_1 .. y_M and balls B(x_i)
    whose radius is the distance from x_i to its k-th nearest neighbour among the real images:
    density = 1/(k M) sum_j sum_i 1[y_j in B(x_i)], coverage = 1/N sum_i 1[some y_j is in B(x_i)]. The balls are those
    of real images only, so that an outlier among the samples does not raise the values as it raises recall. A feature
    that is not finite is in no ball. Both values depend on the numbers of features.

    Args:
        neighbours: Number k of nearest neighbours.

    Raises:
        ValueError: `neighbours` is below 1. From `compute`: there are no more than k real features, or no samples.

    Examples:
        >>> metric = ManifoldDensityCoverage(neighbours=1)
        >>> metric.update(torch.tensor([[0.0], [1.0], [9.0], [10.0]]), real=True)
        >>> metric.update(torch.tensor([[0.0], [1.0]]), real=False)
        >>> metric.compute()
        DensityCoverage(density=tensor(2.), coverage=tensor(0.5000))
    """

    def __init__(self, neighbours: int = 5) -> None:
        super().__init__(neighbours)

    def compute(self) -> DensityCoverage:
        real, fake = self.features(least_fake=1)
        radii = neighbour_distances(real, self.neighbours)
        balls, covered = radii.new_zeros((), dtype=torch.long), torch.zeros_like(radii, dtype=torch.bool)
        for chunk in fake.split(CHUNK):
            inside = distances(chunk, real) <= radii
            balls += inside.sum()
            covered |= inside.any(dim=0)
        return DensityCoverage(balls / (self.neighbours * len(fake)), covered.float().mean())
