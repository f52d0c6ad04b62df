"""Distributions of a code z: the modules that priors build."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

CHUNK_SIZE = 256
"""Number of rows whose distances to all codes are in memory at once."""


class PriorDistribution(nn.Module, ABC):
    """Distribution of z in `dim` dimensions. All it needs is in the model's weights, so that a checkpoint contains it.

    Args:
        dim: Number of dimensions.
    """

    _on_device: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("_on_device", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        return self._on_device.device

    @abstractmethod
    def sample(self, n: int) -> Tensor:
        """n draws, n x dim, float32, by torch's global generator of the module's device."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats, N, of z, N x dim.

        Raises:
            NotImplementedError: the distribution has no density.
        """
        raise NotImplementedError(f"{type(self).__name__} has no density")

    def initialize(self, training_images: Callable[[int], Tensor]) -> None:
        """Sets initial values that depend on the data, once, with a function that returns n training images."""

    def uniform(self, *shape: int) -> Tensor:
        """Uniform draws in [0, 1), float32."""
        return torch.rand(shape, device=self.device, dtype=torch.float32)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal draws, float32."""
        return torch.randn(shape, device=self.device, dtype=torch.float32)


class NormalDistribution(PriorDistribution):
    """N(0, I)."""

    def sample(self, n: int) -> Tensor:
        return self.normal(n, self.dim)

    def log_prob(self, z: Tensor) -> Tensor:
        return normal_log_prob(z.square().sum(dim=1), self.dim)


class UniformDistribution(PriorDistribution):
    """Uniform on [low, high]^dim."""

    def __init__(self, dim: int, low: float, high: float) -> None:
        super().__init__(dim)
        self.low = low
        self.high = high

    def sample(self, n: int) -> Tensor:
        return self.low + (self.high - self.low) * self.uniform(n, self.dim)

    def log_prob(self, z: Tensor) -> Tensor:
        inside = ((z >= self.low) & (z <= self.high)).all(dim=1)
        return torch.where(inside, -self.dim * math.log(self.high - self.low), -math.inf)


class MixtureDistribution(PriorDistribution):
    """Equal parts of N(c_k, std^2 I).

    Args:
        centers: c_k, K x dim.
        std: Standard deviation of each coordinate about its centre.
    """

    centers: Tensor

    def __init__(self, centers: Tensor, std: float) -> None:
        super().__init__(centers.shape[1])
        self.std = std
        self.register_buffer("centers", centers)  # (K, dim)

    def sample(self, n: int) -> Tensor:
        components = torch.randint(len(self.centers), (n,), device=self.device)
        return self.centers[components].float() + self.std * self.normal(n, self.dim)

    def log_prob(self, z: Tensor) -> Tensor:
        squares = ((z[:, None] - self.centers) / self.std).square().sum(dim=2)  # (N, K)
        each = normal_log_prob(squares, self.dim) - self.dim * math.log(self.std)
        return each.logsumexp(dim=1) - math.log(len(self.centers))


class LinearDensityDistribution(PriorDistribution):
    """Independent coordinates of density 1/2 + y on [0, 1]."""

    def sample(self, n: int) -> Tensor:
        return (-1 + (1 + 8 * self.uniform(n, self.dim)).sqrt()) / 2

    def log_prob(self, z: Tensor) -> Tensor:
        inside = ((z >= 0) & (z <= 1)).all(dim=1)
        return torch.where(inside, (0.5 + z.clamp(0, 1)).log().sum(dim=1), -math.inf)


class UnitDiscDistribution(PriorDistribution):
    """Pairs of coordinates, each uniform on the unit disc, by `steps` sweeps of Gibbs sampling from the centre."""

    def __init__(self, dim: int, steps: int) -> None:
        super().__init__(dim)
        self.steps = steps

    def sample(self, n: int) -> Tensor:
        positions = 2 * self.uniform(self.steps, 2, n, self.dim // 2) - 1  # within the interval of each draw, [-1, 1)
        y = positions.new_zeros(n, self.dim // 2)
        for position_x, position_y in positions:
            x = position_x * (1 - y.square()).sqrt()
            y = position_y * (1 - x.square()).sqrt()
        return torch.stack([x, y], dim=2).flatten(1)

    def log_prob(self, z: Tensor) -> Tensor:
        squares = z.unflatten(1, (-1, 2)).square().sum(dim=2)  # (N, dim / 2)
        inside = (squares <= 1 + 1e-6).all(dim=1)  # rounding may move a draw on the rim outwards
        return torch.where(inside, -self.dim / 2 * math.log(math.pi), -math.inf)


class EmpiricalDistribution(PriorDistribution):
    """Given codes, each with the same probability, plus Gaussian noise if there is `jitter`.

    Args:
        codes: M x dim.
        jitter: Standard deviation of the noise, as a multiple of each column's own.
    """

    codes: Tensor
    scale: Tensor

    def __init__(self, codes: Tensor, jitter: float) -> None:
        super().__init__(codes.shape[1])
        self.jitter = jitter
        self.register_buffer("codes", codes)  # (M, dim)
        self.register_buffer("scale", codes.std(dim=0, correction=0) if len(codes) else torch.zeros(self.dim))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Makes room for as many codes as the checkpoint has."""
        stored = state_dict.get(f"{prefix}codes")
        if stored is not None:
            self.codes = self.codes.new_empty(len(stored), self.dim)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def sample(self, n: int) -> Tensor:
        if not len(self.codes):
            raise ValueError("Empirical has codes neither from a file nor from a checkpoint: give --model.prior.codes")
        picked = self.codes[torch.randint(len(self.codes), (n,), device=self.device)].float()
        return picked + self.jitter * self.scale * self.normal(n, self.dim) if self.jitter else picked

    def log_prob(self, z: Tensor) -> Tensor:
        if not self.jitter:
            raise NotImplementedError("Empirical has no density without jitter")
        width = self.jitter * self.scale  # (dim,)
        if not (width > 0).all():
            raise NotImplementedError("Empirical has no density if a column of the codes is constant")
        codes = self.codes / width
        log_probs = [
            normal_log_prob(torch.cdist(rows, codes, compute_mode="donot_use_mm_for_euclid_dist").square(), self.dim)
            for rows in (z / width).split(CHUNK_SIZE)  # (CHUNK_SIZE, M)
        ]
        return torch.cat([each.logsumexp(dim=1) for each in log_probs]) - math.log(len(codes)) - width.log().sum()


def normal_log_prob(squares: Tensor, dim: int) -> Tensor:
    """Log-density of N(0, I) in `dim` dimensions at points of these squared norms."""
    return -0.5 * squares - 0.5 * dim * math.log(2 * math.pi)
