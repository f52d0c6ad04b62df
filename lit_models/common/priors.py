"""Laws of a generator's code z, to be injected into an adversarial model."""

import math
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lit_models.common.component import Component

CODES = "runs/poolingautoencoder_mnist/default/predict/predictions.npz"
"""Codes of the autoencoder that configs/poolingautoencoder_mnist.yaml trains."""
CHUNK = 256
"""Rows whose distances to all codes are held at once."""


class Law(nn.Module, ABC):
    """A law of z in `dim` dimensions. What it needs is in its buffers, so that a checkpoint carries it."""

    _placed: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("_placed", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        return self._placed.device

    @abstractmethod
    def sample(self, n: int) -> Tensor:
        """n x dim, float32, by torch's global generator of the law's device."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density in nats, N, of z, N x dim.

        Raises:
            NotImplementedError: the law has no density.
        """
        raise NotImplementedError(f"{type(self).__name__} has no density")

    def uniform(self, *shape: int) -> Tensor:
        """float32 in [0, 1)."""
        return torch.rand(shape, device=self.device, dtype=torch.float32)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device, dtype=torch.float32)


class Prior(Component, ABC):
    @abstractmethod
    def law(self, dim: int) -> Law:
        """The law in `dim` dimensions.

        Raises:
            ValueError: there is none in so many, or what it is made of cannot be had.
        """


class Normal(Prior):
    """N(0, I)."""

    def law(self, dim: int) -> Law:
        return NormalLaw(dim)


class NormalLaw(Law):
    def sample(self, n: int) -> Tensor:
        return self.normal(n, self.dim)

    def log_prob(self, z: Tensor) -> Tensor:
        return _log_normal(z.square().sum(dim=1), self.dim)


class Uniform(Prior):
    """Each coordinate uniform on [low, high], on its own.

    Raises:
        ValueError: `low` is not below `high`.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0) -> None:
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"low is {low} and high {high}; the first must be below the second, both finite")
        self.low = low
        self.high = high

    def law(self, dim: int) -> Law:
        return UniformLaw(dim, self.low, self.high)


class UniformLaw(Law):
    def __init__(self, dim: int, low: float, high: float) -> None:
        super().__init__(dim)
        self.low = low
        self.high = high

    def sample(self, n: int) -> Tensor:
        return self.low + (self.high - self.low) * self.uniform(n, self.dim)

    def log_prob(self, z: Tensor) -> Tensor:
        inside = ((z >= self.low) & (z <= self.high)).all(dim=1)
        return torch.where(inside, -self.dim * math.log(self.high - self.low), -math.inf)


class Mixture(Prior):
    """Equal parts of N(c_k, std^2 I); the centres c_k are draws, by `seed`, of the uniform law on [-1, 1]^dim.

    Args:
        components: how many centres.
        std: of each coordinate about its centre.
        seed: of the centres alone; with another the law is another.

    Raises:
        ValueError: no component, or `std` is not positive.
    """

    def __init__(self, components: int = 10, std: float = 0.1, seed: int = 0) -> None:
        if components < 1 or not 0 < std < math.inf:
            raise ValueError(f"components is {components} and std {std}; they must be at least 1 and positive")
        self.components = components
        self.std = std
        self.seed = seed

    def law(self, dim: int) -> Law:
        random = torch.Generator().manual_seed(self.seed)
        return MixtureLaw(2 * torch.rand(self.components, dim, generator=random) - 1, self.std)


class MixtureLaw(Law):
    centers: Tensor

    def __init__(self, centers: Tensor, std: float) -> None:
        super().__init__(centers.shape[1])
        self.std = std
        self.register_buffer("centers", centers)  # (K, dim)

    def sample(self, n: int) -> Tensor:
        which = torch.randint(len(self.centers), (n,), device=self.device)
        return self.centers[which].float() + self.std * self.normal(n, self.dim)

    def log_prob(self, z: Tensor) -> Tensor:
        squares = ((z[:, None] - self.centers) / self.std).square().sum(dim=2)  # (N, K)
        each = _log_normal(squares, self.dim) - self.dim * math.log(self.std)
        return each.logsumexp(dim=1) - math.log(len(self.centers))


class LinearDensity(Prior):
    """Each coordinate of density 1/2 + y on [0, 1], on its own.

    By the inverse of its distribution function F(y) = (y + y^2) / 2: y = (-1 + sqrt(1 + 8 x)) / 2, x uniform on [0, 1].
    """

    def law(self, dim: int) -> Law:
        return LinearDensityLaw(dim)


class LinearDensityLaw(Law):
    def sample(self, n: int) -> Tensor:
        return (-1 + (1 + 8 * self.uniform(n, self.dim)).sqrt()) / 2

    def log_prob(self, z: Tensor) -> Tensor:
        inside = ((z >= 0) & (z <= 1)).all(dim=1)
        return torch.where(inside, (0.5 + z.clamp(0, 1)).log().sum(dim=1), -math.inf)


class UnitDisc(Prior):
    """Coordinates in pairs, each pair uniform on the unit disc, by Gibbs sampling from its centre.

    A sweep draws x uniform on +-sqrt(1 - y^2), then y uniform on +-sqrt(1 - x^2); every draw is the end of a chain of
    its own. Given x, the Chebyshev polynomial U_2k(y) has the mean (-1)^k U_2k(x) / (2k + 1), and an odd one has 0. So
    after s sweeps the law of a pair is off by at most 1/2 (sum_{k >= 1} (2k + 1)^(2 - 4s))^(1/2) in total variation, or
    about 3^(1 - 2s) / 2: with 8 sweeps 3.5e-8, below what float32 resolves.

    Args:
        steps: sweeps.

    Raises:
        ValueError: no sweep; from `law`, an odd number of coordinates.
    """

    def __init__(self, steps: int = 8) -> None:
        if steps < 1:
            raise ValueError(f"steps is {steps}; it must be at least 1")
        self.steps = steps

    def law(self, dim: int) -> Law:
        if dim % 2:
            raise ValueError(f"the unit disc takes coordinates in pairs; a code of {dim} has one left over")
        return UnitDiscLaw(dim, self.steps)


class UnitDiscLaw(Law):
    def __init__(self, dim: int, steps: int) -> None:
        super().__init__(dim)
        self.steps = steps

    def sample(self, n: int) -> Tensor:
        places = 2 * self.uniform(self.steps, 2, n, self.dim // 2) - 1  # of each draw in its interval, in [-1, 1)
        y = places.new_zeros(n, self.dim // 2)
        for for_x, for_y in places:
            x = for_x * (1 - y.square()).sqrt()
            y = for_y * (1 - x.square()).sqrt()
        return torch.stack([x, y], dim=2).flatten(1)

    def log_prob(self, z: Tensor) -> Tensor:
        squares = z.unflatten(1, (-1, 2)).square().sum(dim=2)  # (N, dim / 2)
        inside = (squares <= 1 + 1e-6).all(dim=1)  # a draw on the rim may be rounded outwards
        return torch.where(inside, -self.dim / 2 * math.log(math.pi), -math.inf)


class Empirical(Prior):
    """Codes of images, each as likely as any other, with Gaussian noise about them if there is `jitter`.

    The codes are used as they are: a decoder that was trained on them can be the generator's start. With jitter it is a
    kernel density, and each column's variance grows by the factor 1 + jitter^2.

    Args:
        codes: the file that `python train.py predict` writes, with an array `codes`, M x dim; None where a checkpoint
            brings them.
        jitter: standard deviation of the noise in units of the column's.

    Raises:
        ValueError: `jitter` is negative; from `law`, the file is missing, damaged, or holds no such codes.
    """

    initial_weights = ("codes",)

    def __init__(self, codes: str | None = CODES, jitter: float = 0.0) -> None:
        if not 0 <= jitter < math.inf:
            raise ValueError(f"jitter is {jitter}; it must be at least 0")
        self.codes = codes
        self.jitter = jitter

    def law(self, dim: int) -> Law:
        return EmpiricalLaw(torch.empty(0, dim) if self.codes is None else read_codes(self.codes, dim), self.jitter)


class EmpiricalLaw(Law):
    codes: Tensor
    scale: Tensor

    def __init__(self, codes: Tensor, jitter: float) -> None:
        super().__init__(codes.shape[1])
        self.jitter = jitter
        self.register_buffer("codes", codes)  # (M, dim)
        self.register_buffer("scale", codes.std(dim=0, correction=0) if len(codes) else torch.zeros(self.dim))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Takes as many codes as the checkpoint has."""
        stored = state_dict.get(f"{prefix}codes")
        if stored is not None:
            self.codes = self.codes.new_empty(len(stored), self.dim)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def sample(self, n: int) -> Tensor:
        if not len(self.codes):
            raise ValueError("Empirical has neither a file of codes nor a checkpoint's; give --model.prior.codes")
        picked = self.codes[torch.randint(len(self.codes), (n,), device=self.device)].float()
        return picked + self.jitter * self.scale * self.normal(n, self.dim) if self.jitter else picked

    def log_prob(self, z: Tensor) -> Tensor:
        if not self.jitter:
            raise NotImplementedError("Empirical has no density without jitter")
        width = self.jitter * self.scale  # (dim,)
        if not (width > 0).all():
            raise NotImplementedError("Empirical has no density where a column of the codes does not vary")
        codes = self.codes / width
        near = [
            _log_normal(torch.cdist(rows, codes, compute_mode="donot_use_mm_for_euclid_dist").square(), self.dim)
            for rows in (z / width).split(CHUNK)  # (CHUNK, M)
        ]
        return torch.cat([each.logsumexp(dim=1) for each in near]) - math.log(len(codes)) - width.log().sum()


def read_codes(file: str, dim: int) -> Tensor:
    """The array `codes` of an npz file, M x dim, float32.

    Raises:
        ValueError: no such file, another kind of file, or codes that are not finite or of another width.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        run = path.parent.parent if path.parent.name == "predict" else "RUN"
        raise ValueError(
            f"there are no codes at {path}; `python train.py predict --ckpt_path {run}/checkpoints/best.ckpt"
            " --data.predict_split train` writes them"
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            codes = torch.from_numpy(arrays["codes"]).float()
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} holds no array `codes` as `python train.py predict` writes it ({reason})") from None
    if codes.ndim != 2 or not len(codes) or codes.shape[1] != dim:
        raise ValueError(f"{path} holds codes of shape {list(codes.shape)}, but model.latent_dim is {dim}")
    if not codes.isfinite().all():
        raise ValueError(f"{path} holds codes that are not finite; the model that wrote them has diverged")
    return codes


def _log_normal(squares: Tensor, dim: int) -> Tensor:
    """Log-density of N(0, I) in `dim` dimensions from squared lengths."""
    return -0.5 * squares - 0.5 * dim * math.log(2 * math.pi)
