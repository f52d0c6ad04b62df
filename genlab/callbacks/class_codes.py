"""Codes of models that can be asked for a class: a draw of the prior, and the class as a one-hot block behind it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_models.common.capabilities import Decodes, HasLatentBlocks, LatentBlock


def class_block(model: object) -> LatentBlock | None:
    """The one-hot class at the end of a model's codes; None where they end in no class that it can be asked for."""
    classes = getattr(model, "num_classes", None)
    if classes is None or not isinstance(model, HasLatentBlocks) or not isinstance(model, Decodes):
        return None
    last = model.latent_blocks()[-1]
    return last if (last.kind, last.variables, last.categories) == ("categorical", 1, classes) else None


def with_class(codes: Tensor, part: LatentBlock, classes: Tensor) -> Tensor:
    """Copies of codes, N x d, that end in these classes, int64, N."""
    one_hot = F.one_hot(classes.to(codes.device), part.categories).to(codes)
    return torch.cat([codes[:, : part.start], one_hot], dim=1)


def with_every_class(codes: Tensor, part: LatentBlock) -> Tensor:
    """Each code, N x d, with each of the K classes in turn: N K x d."""
    classes = torch.arange(part.categories).repeat(len(codes))
    return with_class(codes.repeat_interleave(part.categories, dim=0), part, classes)
