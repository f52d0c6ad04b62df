"""Sums."""

from typing import NamedTuple

import torch
from torch import Tensor

from genlab.evaluation.classifier import EvaluationClassifier

EXEMPLARS = 3
AROUND = 8
"""Variants of a result, which stands in the middle of them."""
NOISE = 0.25 * 3**0.5
"""Half the range of the variants' noise, in standard deviations of the prior: 0.25 of a prior on [-1, 1]."""


class Sum(NamedTuple):
    """a - b + c, each the mean of three codes."""

    classes: tuple[int, int, int]
    exemplars: Tensor
    """3 of each class, 3 x 3 x d."""
    codes: Tensor
    """The result in the middle of its variants, 9 x d."""


def probabilities(judge: EvaluationClassifier, images: Tensor, batch_size: int = 500) -> Tensor:
    """Of each class, N x K, on the CPU; 0 for all of them where an image is not finite."""
    read = torch.cat([judge.probabilities(batch).cpu() for batch in images.split(batch_size)])
    return read.nan_to_num(0.0)


def most_confident(codes: Tensor, probabilities: Tensor) -> dict[int, Tensor]:
    """Of each class that is the most probable one of three codes or more, the three most_confident: 3 x d.

    Args:
        codes: N x d.
        probabilities: of each class, N x K.
    """
    probability, found = probabilities.max(dim=1)
    found = torch.where(probability > 0, found, -1)
    exemplars = {}
    for label in range(probabilities.shape[1]):
        of_class = (found == label).nonzero()[:, 0]
        if len(of_class) >= EXEMPLARS:
            exemplars[label] = codes[of_class[probability[of_class].topk(EXEMPLARS).indices]]
    return exemplars


def add(exemplars: dict[int, Tensor], classes: tuple[int, int, int], deviation: Tensor) -> Sum:
    """The sum of these classes, and variants by noise in proportion to the codes' standard deviations, d."""
    chosen = torch.stack([exemplars[label] for label in classes])  # (3, 3, d)
    a, b, c = chosen.mean(dim=1)
    noise = NOISE * (2 * torch.rand(AROUND + 1, len(a)) - 1) * deviation
    noise[AROUND // 2] = 0
    return Sum(classes, chosen, a - b + c + noise)
