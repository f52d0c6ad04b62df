from torch import Tensor
from torch.nn import functional as F


def classification_terms(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Cross-entropy in nats, and the share of right answers in [0, 1]: logits N x K, labels as for `class_of`."""
    classes = class_of(labels)
    return {
        "loss": F.cross_entropy(logits, classes),
        "accuracy": (logits.argmax(dim=1) == classes).float().mean(),
    }


def class_of(labels: Tensor) -> Tensor:
    """The class, int64 N, of labels that are the class itself, N, or a row that begins with it, N x L."""
    return labels if labels.ndim == 1 else labels[:, 0]
