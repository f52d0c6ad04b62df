from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

CHUNK = 1000
"""Rows of a distance matrix that are computed at once."""


class PrecisionRecall(NamedTuple):
    """Precision and recall of samples, both in [0, 1]; higher is better."""

    precision: Tensor
    """Share of the samples on the manifold of real images: fidelity."""
    recall: Tensor
    """Share of the real images on the manifold of samples: diversity."""


class ManifoldPrecisionRecall(Metric):
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

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, neighbours: int = 3) -> None:
        super().__init__()
        if neighbours < 1:
            raise ValueError(f"neighbours is {neighbours}; give at least 1")
        self.neighbours = neighbours
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, real: bool) -> None:
        """Adds features, N x F, of real images or of samples."""
        (self.real if real else self.fake).append(features.detach().float())

    def compute(self) -> PrecisionRecall:
        real, fake = dim_zero_cat(self.real), dim_zero_cat(self.fake)
        if min(len(real), len(fake)) <= self.neighbours:
            raise ValueError(
                f"{len(real)} real images and {len(fake)} samples are too few for {self.neighbours}"
                " neighbours; add images or use fewer neighbours"
            )
        centre = real.mean(dim=0)  # distances are more exact near zero
        real, fake = real - centre, fake - centre
        return PrecisionRecall(
            fraction_on_manifold(fake, real, self.neighbours), fraction_on_manifold(real, fake, self.neighbours)
        )


def fraction_on_manifold(points: Tensor, manifold: Tensor, neighbours: int) -> Tensor:
    """Returns the share of `points`, N x F, inside the ball of at least one point of `manifold`, M x F."""
    radii = torch.cat(
        [
            torch.cdist(chunk, manifold).topk(neighbours + 1, largest=False).values[:, -1]  # the nearest is itself
            for chunk in manifold.split(CHUNK)
        ]
    )
    inside = [(torch.cdist(chunk, manifold) <= radii).any(dim=1) for chunk in points.split(CHUNK)]
    return torch.cat(inside).float().mean()
