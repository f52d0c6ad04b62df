"""Arithmetic on latent codes, with exemplars that a classifier chooses."""

from typing import NamedTuple

import torch
from torch import Tensor

from genlab.evaluation.classifier import EvaluationClassifier

EXEMPLARS = 3
"""Codes of each class whose mean is taken."""
VARIANTS = 8
"""Noisy variants around a result."""
NOISE = 0.25 * 3**0.5
"""Half the range of the uniform noise, in standard deviations of the prior: 0.25 for a uniform prior on [-1, 1]."""


class ArithmeticResult(NamedTuple):
    """The code a - b + c, each term the mean of three exemplars."""

    classes: tuple[int, int, int]
    """a, b and c."""
    exemplars: Tensor
    """Three codes of each class, 3 x 3 x d."""
    codes: Tensor
    """Noisy variants of the result, 9 x d; the one in the middle is without noise."""


def class_probabilities(classifier: EvaluationClassifier, images: Tensor, batch_size: int = 500) -> Tensor:
    """The probabilities of the classes, N x K, on the CPU; all 0 for an image that is not finite."""
    batches = torch.cat([classifier.probabilities(batch).cpu() for batch in images.split(batch_size)])
    return batches.nan_to_num(0.0)


def most_confident(codes: Tensor, probabilities: Tensor) -> dict[int, Tensor]:
    """The three codes of each class with the highest probabilities, 3 x d, for classes of at least three codes.

    Args:
        codes: N x d.
        probabilities: The probabilities of the classes, N x K.
    """
    probability, predicted = probabilities.max(dim=1)
    predicted = torch.where(probability > 0, predicted, -1)
    exemplars = {}
    for label in range(probabilities.shape[1]):
        of_class = (predicted == label).nonzero()[:, 0]
        if len(of_class) >= EXEMPLARS:
            exemplars[label] = codes[of_class[probability[of_class].topk(EXEMPLARS).indices]]
    return exemplars


def add_codes(exemplars: dict[int, Tensor], classes: tuple[int, int, int], deviation: Tensor) -> ArithmeticResult:
    """Computes a - b + c and its noisy variants.

    Args:
        exemplars: Codes of each class, 3 x d.
        classes: a, b and c.
        deviation: Standard deviation of each dimension of the codes, d; the noise is in proportion to it.
    """
    chosen = torch.stack([exemplars[label] for label in classes])  # (3, 3, d)
    a, b, c = chosen.mean(dim=1)
    noise = NOISE * (2 * torch.rand(VARIANTS + 1, len(a)) - 1) * deviation
    noise[VARIANTS // 2] = 0
    return ArithmeticResult(classes, chosen, a - b + c + noise)
