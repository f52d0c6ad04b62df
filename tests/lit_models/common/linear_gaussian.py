"""A model whose evidence is known: z ~ N(0, I), x = W z + s e with e ~ N(0, I), so that x ~ N(0, W W^T + s^2 I)."""

import math

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from lit_models.common.code_distributions import CodeDistribution
from lit_models.common.latent_distributions import Gaussian
from lit_models.common.vae_objectives import EncodedBatch

W = torch.tensor([[1.0, 0.5], [-0.5, 1.0], [0.5, 0.0], [0.0, 0.5]])
"""Its columns are orthogonal and of equal length, so that the true posterior has a diagonal covariance."""
S = 0.5
X = torch.tensor([[0.3, -1.2, 0.8, 0.1], [1.5, 0.4, -0.7, 0.9], [-0.2, 0.0, 0.3, -2.0]])


def log_likelihood(codes: Tensor, x: Tensor = X) -> Tensor:
    """log p(x|z) of codes, k x N x 2: k x N."""
    return (-0.5 * ((x - codes @ W.T.to(codes)) / S).square() - math.log(S * math.sqrt(2 * math.pi))).sum(dim=2)


def evidence(x: Tensor = X) -> Tensor:
    """log p(x): N."""
    return MultivariateNormal(torch.zeros(4), W @ W.T + S**2 * torch.eye(4)).log_prob(x)


def true_posterior(x: Tensor = X) -> Tensor:
    """Means and log-variances of p(z|x), N x 4."""
    precision = W.T @ W / S**2 + torch.eye(2)
    mean = torch.linalg.solve(precision, W.T @ x.T / S**2).T
    return torch.cat([mean, -precision.diagonal().log().expand(len(x), 2)], dim=1)


def batch(
    params: Tensor, distribution: CodeDistribution | None = None, x: Tensor = X, weight: float = 1.0
) -> EncodedBatch:
    return EncodedBatch(
        params, distribution or Gaussian(), lambda codes: log_likelihood(codes, x), weight, torch.tensor(0), 0, len(x)
    )
