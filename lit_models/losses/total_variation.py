"""Total variation of images."""

import torch
from torch import Tensor
from torch.nn import functional as F


def total_variation(images: Tensor, beta: float = 2.0) -> Tensor:
    """Returns the mean over channels and pixels of ((x_{i,j+1} - x_ij)^2 + (x_{i+1,j} - x_ij)^2)^(beta/2): N.

    Mahendran and Vedaldi 2015, arXiv 1412.0035, section 3.1. A pixel of the last row or column has only one difference.
    If beta is below 2, the term is not differentiable where both differences are zero; its gradient there is set to 0,
    which is a subgradient. Computed at least in single precision.

    Args:
        images: N x C x H x W.
        beta: Exponent, at least 1. With 1, an edge costs as much as a ramp of the same height; above 1, ramps cost
            less.
    """
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    down = F.pad(images.diff(dim=2), (0, 0, 0, 1))
    right = F.pad(images.diff(dim=3), (0, 1))
    squares = down.square() + right.square()  # (N, C, H, W)
    if beta == 2:
        return squares.flatten(1).mean(dim=1)
    flat = squares == 0
    powers = torch.where(flat, 1, squares).pow(beta / 2)
    return torch.where(flat, 0, powers).flatten(1).mean(dim=1)
