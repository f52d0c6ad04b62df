"""Principal component analysis (PCA), and the angle between subspaces."""

import torch
from torch import Tensor

from genlab.devices import float64_device


def mean_and_axes(images: Tensor, d: int, batch_size: int = 1000) -> tuple[Tensor, Tensor]:
    """The mean and the first d principal axes of N images, N x C x H x W, which have at most N - 1 axes.

    The axes are eigenvectors of the covariance of the pixels, which is summed batch by batch, without a second copy of
    the images. Those of fewer images than pixels are found by the scalar products of the images, N x N, instead.

    Returns:
        The mean, CHW, and the orthonormal axes, d x CHW; both float64.
    """
    device = float64_device(images.device)
    mean = images.flatten(1).mean(dim=0, dtype=torch.float32)
    if len(images) < len(mean):
        centred = (images.flatten(1) - mean).to(device).double()
        _, vectors = torch.linalg.eigh(centred @ centred.T)  # from the smallest eigenvalue up
        largest = vectors[:, -min(d, max(1, len(images) - 1)) :].flip(1)
        return mean.to(device).double(), orthonormal(largest.T @ centred)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=device)
    for batch in images.flatten(1).split(batch_size):
        centred = batch - mean
        covariance += (centred.T @ centred).to(device)
    _, vectors = torch.linalg.eigh(covariance / len(images))  # from the smallest eigenvalue up
    return mean.to(device).double(), vectors[:, -d:].flip(1).T.contiguous()


def orthonormal(vectors: Tensor) -> Tensor:
    """An orthonormal basis of the span of independent vectors, d x D: d x D, float64."""
    return torch.linalg.qr(vectors.double().T).Q.T


def largest_principal_angle(a: Tensor, b: Tensor) -> Tensor:
    """The largest principal angle in degrees, 0 to 90, between the spans of a and b, d x D and e x D.

    There are as many angles as the smaller one of the spans has dimensions. The angle is NaN if a or b is not finite.

    It is computed from its sine, the spectral norm of the part of one basis outside the other span, because the cosine
    of a small angle is too inaccurate (Bjorck and Golub 1973, doi 10.1090/S0025-5718-1973-0348991-3).
    """
    if len(a) > len(b):
        a, b = b, a
    a, b = orthonormal(a), orthonormal(b)
    outside = a - a @ b.T @ b
    if not outside.isfinite().all():
        return outside.new_full((), torch.nan)
    return torch.linalg.matrix_norm(outside, ord=2).clamp(max=1).asin().rad2deg()


def projection_error(images: Tensor, mean: Tensor, axes: Tensor, batch_size: int = 1000) -> Tensor:
    """The mean squared error per pixel of images, N x C x H x W, projected on the span of the axes through the mean."""
    total = mean.new_zeros(())
    for batch in images.flatten(1).split(batch_size):
        centred = batch.to(mean) - mean
        total += (centred - centred @ axes.T @ axes).square().sum()
    return total / images.numel()
