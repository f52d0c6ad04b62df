"""Bounds of the log-likelihood of a model with a latent code, and the parts of the divergence in them."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Sampling = Literal["weighted", "stratified"]


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """log 1/k sum_i w_i (Burda et al. 2015, arXiv 1509.00519, eq. 8): log w_i = log p(x, z_i) - log q(z_i|x), k x N.

    On average it is a lower bound of log p(x), and the tighter the larger k: N.

    Examples:
        >>> importance_weighted_bound(torch.tensor([[1.0], [1.0]]))
        tensor([1.])
    """
    return log_weights.logsumexp(dim=0) - math.log(len(log_weights))


class Divergences(NamedTuple):
    """The parts of E_p(x) KL(q(z|x) || p(z)), in nats: scalars. q(z) is the mean of q(z|x) over the images."""

    mutual_information: Tensor
    """KL(q(z, x) || q(z) p(x)), between images and codes."""
    total_correlation: Tensor
    """KL(q(z) || prod_j q(z_j)), between the dimensions of the code."""
    dimension_wise_kl: Tensor
    """sum_j KL(q(z_j) || p(z_j))."""


def decompose_kl(log_q: Tensor, log_p: Tensor, num_images: int, sampling: Sampling = "weighted") -> Divergences:
    """Estimates the parts of the divergence by one code z_i ~ q(z|x_i) of each image x_i of a batch.

    Chen et al. 2018, arXiv 1802.04942, eq. 2.

    Args:
        log_q: log q(z_ij | x_k), in position i, k, j: N x N x d.
        log_p: log p(z_ij), N x d.
        num_images: Number of images in the data; at least N.
        sampling: How log q(z) is estimated, see `log_batch_weights`.
    """
    weights = log_batch_weights(len(log_q), num_images, sampling, log_q.device)
    log_q_given_x = log_q.sum(dim=2).diagonal()  # (N,)
    log_q_joint = (weights + log_q.sum(dim=2)).logsumexp(dim=1)
    log_q_product = (weights[..., None] + log_q).logsumexp(dim=1).sum(dim=1)
    return Divergences(
        (log_q_given_x - log_q_joint).mean(),
        (log_q_joint - log_q_product).mean(),
        (log_q_product - log_p.sum(dim=1)).mean(),
    )


def log_batch_weights(n: int, num_images: int, sampling: Sampling, device: torch.device | str = "cpu") -> Tensor:
    """log a_ik for the estimate log sum_k a_ik q(z_i|x_k) of log q(z_i) by a batch: N x N.

    With N images in the batch and M in the data,

    - weighted: a_ik = 1 / (M N), the minibatch-weighted sampling of Chen et al. 2018, whose estimate is too low;
    - stratified: a_ii = 1 / M and a_ik = (M - 1) / (M (N - 1)), with which the sum is unbiased, and exact for M = N.
      Their minibatch-stratified sampling gives one of the other images a weight of its own, with the same mean.
    """
    if sampling == "weighted":
        return torch.full((n, n), -math.log(num_images * n), device=device)
    others = math.log(max(num_images - 1, 1) / (num_images * max(n - 1, 1)))
    return torch.full((n, n), others, device=device).fill_diagonal_(-math.log(num_images))


def normal_log_density(z: Tensor, mean: Tensor | float = 0.0, log_var: Tensor | float = 0.0) -> Tensor:
    """Log-density of each coordinate of z under N(mean, exp(log_var)); the shapes are broadcast.

    Examples:
        >>> normal_log_density(torch.zeros(1))
        tensor([-0.9189])
    """
    log_var = torch.as_tensor(log_var, dtype=z.dtype, device=z.device)
    return -0.5 * ((z - mean).square() * (-log_var).exp() + log_var + math.log(2 * math.pi))
