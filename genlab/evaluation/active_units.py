"""Counts the active units of a latent code."""

import torch
from torch import Tensor

from lit_models.common.capabilities import LatentBlock


def active_units(variances: Tensor, blocks: list[LatentBlock], threshold: float) -> Tensor:
    """The number of units whose variance is above a threshold, a scalar (Burda et al. 2015, arXiv 1509.00519, 5.2).

    A unit is a real dimension, or a categorical variable with the sum of its categories' variances. The number is NaN
    if a variance is NaN.

    Args:
        variances: Variance of each column of the codes, d.
        blocks: What the columns mean.
        threshold: On the variance.
    """
    counts = []
    for block in blocks:
        columns = variances[block.start : block.stop]
        units = columns if block.kind == "continuous" else columns.view(-1, block.categories).sum(dim=1)
        counts.append((units > threshold).sum())
    return torch.where(variances.isnan().any(), torch.nan, torch.stack(counts).sum())
