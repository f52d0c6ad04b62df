"""How likely an image is, given the decoder's output."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

LikelihoodKind = Literal["bernoulli", "gaussian", "laplace"]


def log_likelihood(kind: LikelihoodKind, logits: Tensor, images: Tensor, scale: float = 1.0) -> Tensor:
    """log p(image | mean), mean = sigmoid(logits), in nats, summed over the pixels of an image.

    - bernoulli: x log m + (1 - x) log(1 - m). A log-probability for binary images; for grey ones the usual
      cross-entropy, which is no density (Loaiza-Ganem and Cunningham 2019, arXiv 1907.06845).
    - gaussian: -(x - m)^2 / (2 s^2) - log(s sqrt(2 pi)).
    - laplace: -|x - m| / s - log(2 s).

    Args:
        logits, images: N x C x H x W.
        scale: s, the same for all pixels.

    Returns:
        N, float32.
    """
    logits, images = logits.float(), images.float()
    if kind == "bernoulli":
        pixels = -F.binary_cross_entropy_with_logits(logits, images, reduction="none")
    elif kind == "gaussian":
        pixels = -0.5 * ((images - logits.sigmoid()) / scale).square() - math.log(scale * math.sqrt(2 * math.pi))
    else:
        pixels = -(images - logits.sigmoid()).abs() / scale - math.log(2 * scale)
    return torch.flatten(pixels, 1).sum(dim=1)
