import torch
from torch import Tensor

MIN_SQUARED_NORM = 1e-12
"""Lower bound of |r|^2, which keeps the error finite for references of zeros."""


def relative_error(found: Tensor, references: Tensor) -> Tensor:
    """Returns |f - r|^2 / |r|^2 of each row: N x ... -> N, at least in single precision.

    It is 0 for equal rows and 1 for zeros in place of the references, independent of the references' scale.
    """
    wide = torch.promote_types(found.dtype, torch.float32)
    found, references = found.to(wide).flatten(1), references.to(wide).flatten(1)
    size = references.square().sum(dim=1).clamp(min=MIN_SQUARED_NORM)
    return (found - references).square().sum(dim=1) / size
