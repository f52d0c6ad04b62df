import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class FeatureSets(Metric):
    """Base of metrics that compare all features of real images with all features of samples by nearest neighbours.

    Args:
        neighbours: Number k of nearest neighbours.

    Raises:
        ValueError: `neighbours` is below 1.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    real: list[Tensor]
    fake: list[Tensor]

    def __init__(self, neighbours: int) -> None:
        super().__init__()
        if neighbours < 1:
            raise ValueError(f"neighbours is {neighbours}; give at least 1")
        self.neighbours = neighbours
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("fake", [], dist_reduce_fx="cat")

    def update(self, features: Tensor, real: bool) -> None:
        """Adds features, N x F, of real images or of samples."""
        (self.real if real else self.fake).append(features.detach().float())

    def features(self, least_fake: int) -> tuple[Tensor, Tensor]:
        """Returns the features of real images and of samples.

        Raises:
            ValueError: There are no more than k real images, or fewer than `least_fake` samples.
        """
        # lists, or tensors once several processes have been joined
        real, fake = (dim_zero_cat(parts) if len(parts) else torch.empty(0, 0) for parts in (self.real, self.fake))
        if len(real) <= self.neighbours or len(fake) < least_fake:
            raise ValueError(
                f"{len(real)} real images and {len(fake)} samples are too few for {self.neighbours} neighbours; add"
                " images or use fewer neighbours"
            )
        return real, fake
