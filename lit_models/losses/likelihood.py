"""Log-likelihood of an image given the output of a decoder, and the likelihood of 8-bit images under a density."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

LikelihoodKind = Literal["bernoulli", "gaussian", "laplace"]
BITS = 8
"""Bits of a pixel value."""


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


def dequantise(images: Tensor, noise: Tensor | float) -> Tensor:
    """y = (255 x + noise) / 256 of 8-bit images x in [0, 1], N x C x H x W, with noise uniform in [0, 1).

    Theis et al. 2015, arXiv 1511.01844, section 3.1: with it, the density of y is a bound of the probability of x.
    """
    return ((2**BITS - 1) * images + noise) / 2**BITS


def bits_per_dim(log_prob: Tensor, dim: int) -> Tensor:
    """Upper bound of -log2 P(x) / dim from log p(y) in nats of a dequantised image y of `dim` pixel values.

    A value of x has the probability of a bin of y of width 1 / 256.
    """
    return BITS - log_prob / (dim * math.log(2))
