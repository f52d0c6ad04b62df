from typing import NamedTuple

import torch
from torch import Tensor

from genlab.metrics.feature_sets import FeatureSets

CHUNK = 1000
"""Rows of a distance matrix that are computed at once."""


class PrecisionRecall(NamedTuple):
    """Precision and recall of samples, both in [0, 1]; higher is better."""

    precision: Tensor
    """Share of the samples on the manifold of real images: fidelity."""
    recall: Tensor
    """Share of the real images on the manifold of samples: diversity."""


class ManifoldPrecisionRecall(FeatureSets):
    """Precision and recall of samples by nearest neighbours in feature space, both in [0, 1]; higher is better.

    Kynkaanniemi et al. 2019, arXiv 1904.06991, eq. 1 and 2: the manifold of a set of features is the union of the balls
    around its points, each with the distance to the point's k-th nearest neighbour in the set as radius. A feature that
    is not finite is on no manifold. Both values depend on the number of features in each set.

    Args:
        neighbours: Number k of nearest neighbours.

    Raises:
        ValueError: `neighbours` is below 1. From `compute`: a set has no more than k features.

    Examples:
        >>> metric = ManifoldPrecisionRecall(neighbours=1)
        >>> metric.update(torch.tensor([[0.0], [1.0], [9.0], [10.0]]), real=True)
        >>> metric.update(torch.tensor([[0.0], [1.0]]), real=False)
        >>> metric.compute()
        PrecisionRecall(precision=tensor(1.), recall=tensor(0.5000))
    """

    def __init__(self, neighbours: int = 3) -> None:
        super().__init__(neighbours)

    def compute(self) -> PrecisionRecall:
        real, fake = self.features(least_fake=self.neighbours + 1)
        radii_real, radii_fake = neighbour_distances(real, self.neighbours), neighbour_distances(fake, self.neighbours)
        on_real, on_fake = [], torch.zeros_like(radii_real, dtype=torch.bool)
        for chunk, radii in zip(fake.split(CHUNK), radii_fake.split(CHUNK), strict=True):
            apart = distances(chunk, real)
            on_real.append((apart <= radii_real).any(dim=1))
            on_fake |= (apart <= radii[:, None]).any(dim=0)
        return PrecisionRecall(torch.cat(on_real).float().mean(), on_fake.float().mean())


def neighbour_distances(points: Tensor, k: int) -> Tensor:
    """The distance of each point, N x F, to its k-th nearest neighbour among the others: N."""
    nearest = [distances(chunk, points).topk(k + 1, largest=False).values for chunk in points.split(CHUNK)]
    return torch.cat(nearest)[:, -1]  # the first is the point itself


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances, computed from differences: a matrix product loses the digits of small distances between
    points far from the origin. N x F and M x F -> N x M.
    """
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
