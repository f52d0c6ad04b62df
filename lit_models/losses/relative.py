import torch
from torch import Tensor

SMALLEST = 1e-12
"""What |r|^2 counts as at least, so that references of nothing at all leave the error finite."""


def relative_error(found: Tensor, references: Tensor) -> Tensor:
    """|f - r|^2 / |r|^2 of each row: N x ... -> N, in single precision at least.

    0 where they are equal, 1 for zeros in the place of the references, whatever the references' size.
    """
    wide = torch.promote_types(found.dtype, torch.float32)
    found, references = found.to(wide).flatten(1), references.to(wide).flatten(1)
    size = references.square().sum(dim=1).clamp(min=SMALLEST)
    return (found - references).square().sum(dim=1) / size
