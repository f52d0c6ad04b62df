import torch
from torch import Tensor

from lit_models.common.capabilities import LatentBlock


def active_units(variances: Tensor, parts: list[LatentBlock], threshold: float) -> Tensor:
    """The number of units, of the columns' variances, above the threshold: a scalar."""
    found = []
    for part in parts:
        columns = variances[part.start : part.stop]
        units = columns if part.kind == "continuous" else columns.view(-1, part.categories).sum(dim=1)
        found.append((units > threshold).sum())
    return torch.stack(found).sum()
