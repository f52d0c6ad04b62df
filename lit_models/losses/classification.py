from torch import Tensor
from torch.nn import functional as F


def classification_terms(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Cross-entropy in nats, and the share of right answers in [0, 1]: logits N x K, labels int64 N."""
    return {
        "loss": F.cross_entropy(logits, labels),
        "accuracy": (logits.argmax(dim=1) == labels).float().mean(),
    }
