"""Log-likelihood of an image given the output of a decoder."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

LikelihoodKind = Literal["bernoulli", "gaussian", "laplace"]


def log_likelihood(kind: LikelihoodKind, logits: Tensor, images: Tensor, scale: float = 1.0) -> Tensor:
    """Returns log p(image | mean) with mean = sigmoid(logits), in nats, summed over the pixels of an image.

    - bernoulli: x log m + (1 - x) log(1 - m). A log-probability for binary images; for grey images the usual
      cross-entropy, which is not a density (Loaiza-Ganem and Cunningham 2019, arXiv 1907.06845).
    - gaussian: -(x - m)^2 / (2 s^2) - log(s sqrt(2 pi)).
    - laplace: -|x - m| / s - log(2 s).

    Args:
        kind: Distribution of a pixel.
        logits: N x C x H x W.
        images: N x C x H x W in [0, 1].
        scale: Scale s of a gaussian or laplace pixel, the same for all pixels.

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
