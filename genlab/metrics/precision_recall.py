from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

CHUNK = 1000


class PrecisionRecall(NamedTuple):
    """Both in [0, 1]."""

    precision: Tensor
    """Share of the samples that lie on the manifold of real images: samples are good."""
    recall: Tensor
    """Share of the real images that lie on the manifold of samples: samples are of every kind."""


class ManifoldPrecisionRecall(Metric):
    """Precision and recall of samples by nearest neighbours (Kynkaanniemi et al. 2019, arXiv 1904.06991, eq. 1 and 2).

    The manifold of a set of features is the union of balls, one around each of its points, that reach to the point's
    k-th nearest neighbour in the set. Distances are computed by `CHUNK` rows at a time; a feature that is not finite is
    on no manifold. Both numbers depend on how many there are of each set.

    Args:
        neighbours: k.

    Raises:
        ValueError: k is below one; from `compute`, a set has no more than k features.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, neighbours: int = 3) -> None:
        super().__init__()
        if neighbours < 1:
            raise ValueError(f"neighbours is {neighbours}; it must be at least 1")
        self.neighbours = neighbours
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, real: bool) -> None:
        """features: N x F."""
        (self.real if real else self.fake).append(features.detach().float())

    def compute(self) -> PrecisionRecall:
        real, fake = dim_zero_cat(self.real), dim_zero_cat(self.fake)
        if min(len(real), len(fake)) <= self.neighbours:
            raise ValueError(
                f"{len(real)} real images or {len(fake)} samples: too few for {self.neighbours} neighbours"
            )
        centre = real.mean(dim=0)  # distances lose fewer digits near zero
        real, fake = real - centre, fake - centre
        return PrecisionRecall(
            share_on_manifold(fake, real, self.neighbours), share_on_manifold(real, fake, self.neighbours)
        )


def share_on_manifold(points: Tensor, manifold: Tensor, neighbours: int) -> Tensor:
    """Share of `points`, N x F, within the ball of at least one of the points of `manifold`, M x F."""
    radii = torch.cat(
        [
            torch.cdist(chunk, manifold).topk(neighbours + 1, largest=False).values[:, -1]  # the nearest is itself
            for chunk in manifold.split(CHUNK)
        ]
    )
    inside = [(torch.cdist(chunk, manifold) <= radii).any(dim=1) for chunk in points.split(CHUNK)]
    return torch.cat(inside).float().mean()
