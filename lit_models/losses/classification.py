"""Cross-entropy and accuracy of a classifier."""

import torch
from torch import Tensor
from torch.nn import functional as F


def classification_terms(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Returns the cross-entropy in nats and the accuracy in [0, 1]: logits N x K, labels as in `class_of`.

    The accuracy is NaN if a logit is NaN or infinite.
    """
    classes = class_of(labels)
    correct = (logits.argmax(dim=1) == classes).float()
    return {
        "loss": F.cross_entropy(logits, classes),
        "accuracy": torch.where(logits.isfinite().all(dim=1), correct, torch.nan).mean(),
    }


def class_of(labels: Tensor) -> Tensor:
    """Returns the class, int64 N, of labels that are the class, N, or rows that begin with it, N x L."""
    return labels if labels.ndim == 1 else labels[:, 0]
