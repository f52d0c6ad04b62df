"""The flow between correlated normal images and noise, in closed form and in double precision."""

import torch
from torch import Tensor

from lit_models.common.noise_process import ContinuousProcess, Denoised, Level

SHAPE = (1, 1, 3)


class GaussianImages:
    """Images N(mean, S) of three pixels, S not diagonal: x_t is N(alpha mean, V_t), V_t = alpha^2 S + sigma^2 I."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        root = torch.randn(3, 3, generator=random, dtype=torch.float64) / 2
        self.mean = torch.tensor([0.5, -0.2, 0.1], dtype=torch.float64)
        self.covariance = root @ root.T + 0.05 * torch.eye(3, dtype=torch.float64)

    def variance(self, level: Level[float]) -> Tensor:
        return level.alpha**2 * self.covariance + level.sigma**2 * torch.eye(3, dtype=torch.float64)

    def denoise(self, noisy: Tensor, level: Level[float]) -> Denoised:
        """The expected image and noise: N x 1 x 1 x 3 each."""
        rest = torch.linalg.solve(self.variance(level), (noisy.flatten(1) - level.alpha * self.mean).T).T
        clean = self.mean + level.alpha * rest @ self.covariance
        return Denoised(clean.view_as(noisy), level.sigma * rest.view_as(noisy))

    def image_of(self, process: ContinuousProcess, noisy: Tensor) -> Tensor:
        """Where the flow ends that starts from x_1, N x 1 x 1 x 3: x_t = alpha mean + V_t^(1/2) u for one u."""
        start, end = process.level(1.0), process.level(0.0)
        u = torch.linalg.solve(root(self.variance(start)), (noisy.flatten(1) - start.alpha * self.mean).T).T
        last = end.alpha * self.mean + u @ root(self.variance(end))
        return (self.denoise(last, end).clean if end.sigma else last).view_as(noisy)

    def log_density(self, process: ContinuousProcess, points: Tensor) -> Tensor:
        """log density of x_t at t = 0, N."""
        level = process.level(0.0)
        normal = torch.distributions.MultivariateNormal(level.alpha * self.mean, self.variance(level))
        return normal.log_prob(points.flatten(1))


def root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a positive matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ values.sqrt().diag() @ vectors.T
