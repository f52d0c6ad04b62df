"""Priors: components that build the distribution of a generator's code z."""

import math
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_models.common.component import Component
from lit_models.common.prior_distributions import (
    EmpiricalDistribution,
    LinearDensityDistribution,
    MixtureDistribution,
    NormalDistribution,
    PriorDistribution,
    UniformDistribution,
    UnitDiscDistribution,
)

CODES = "runs/poolingautoencoder_mnist/default/predict/predictions.npz"
"""Codes of the autoencoder that configs/poolingautoencoder_mnist.yaml trains."""


class Prior(Component, ABC):
    """Component that builds the distribution of z."""

    @abstractmethod
    def build(self, dim: int) -> PriorDistribution:
        """The distribution in `dim` dimensions.

        Raises:
            ValueError: it does not exist in `dim` dimensions, or a file that it needs cannot be read.
        """


class Normal(Prior):
    """Standard normal distribution N(0, I)."""

    def build(self, dim: int) -> PriorDistribution:
        return NormalDistribution(dim)


class Uniform(Prior):
    """Independent coordinates, each uniform on [low, high].

    Args:
        low: Lower end of the interval.
        high: Upper end of the interval.

    Raises:
        ValueError: `low` is not below `high`, or one of them is not finite.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0) -> None:
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"low is {low} and high {high}; the first must be below the second, both finite")
        self.low = low
        self.high = high

    def build(self, dim: int) -> PriorDistribution:
        return UniformDistribution(dim, self.low, self.high)


class Mixture(Prior):
    """Mixture of equal parts of N(c_k, std^2 I), whose centres c_k are drawn uniformly from [-1, 1]^dim.

    Args:
        components: Number of centres.
        std: Standard deviation of each coordinate about its centre.
        seed: Seed of the centres; it does not depend on the run's seed.

    Raises:
        ValueError: there is no component, or `std` is not positive.
    """

    def __init__(self, components: int = 10, std: float = 0.1, seed: int = 0) -> None:
        if components < 1 or not 0 < std < math.inf:
            raise ValueError(f"components is {components} and std {std}; they must be at least 1 and positive")
        self.components = components
        self.std = std
        self.seed = seed

    def build(self, dim: int) -> PriorDistribution:
        random = torch.Generator().manual_seed(self.seed)
        return MixtureDistribution(2 * torch.rand(self.components, dim, generator=random) - 1, self.std)


class LinearDensity(Prior):
    """Independent coordinates of density 1/2 + y on [0, 1].

    They are drawn by the inverse of the distribution function F(y) = (y + y^2) / 2: y = (-1 + sqrt(1 + 8 x)) / 2 with x
    uniform on [0, 1].
    """

    def build(self, dim: int) -> PriorDistribution:
        return LinearDensityDistribution(dim)


class UnitDisc(Prior):
    """Pairs of coordinates, each pair uniform on the unit disc, by Gibbs sampling from the disc's centre.

    A sweep draws x uniformly from +-sqrt(1 - y^2), then y uniformly from +-sqrt(1 - x^2). Each draw is the end of a
    chain of its own. Given x, the Chebyshev polynomial U_2k(y) has the mean (-1)^k U_2k(x) / (2k + 1), and an odd one
    has 0. After s sweeps the distribution of a pair is therefore off by at most
    1/2 (sum_{k >= 1} (2k + 1)^(2 - 4s))^(1/2) in total variation, or about 3^(1 - 2s) / 2: with 8 sweeps 3.5e-8, below
    the resolution of float32.

    Args:
        steps: Number of sweeps.

    Raises:
        ValueError: `steps` is below one; from `build`, the number of coordinates is odd.
    """

    def __init__(self, steps: int = 8) -> None:
        if steps < 1:
            raise ValueError(f"steps is {steps}; it must be at least 1")
        self.steps = steps

    def build(self, dim: int) -> PriorDistribution:
        if dim % 2:
            raise ValueError(f"UnitDisc has pairs of coordinates, but latent_dim is {dim}; give an even number")
        return UnitDiscDistribution(dim, self.steps)


class Empirical(Prior):
    """Codes of images, each with the same probability, plus Gaussian noise if there is `jitter`.

    The codes are not rescaled, so that a decoder that was trained on them can initialise the generator. With jitter it
    is a kernel density, and the variance of each column grows by the factor 1 + jitter^2.

    Args:
        codes: File that `python train.py predict` writes, with an array `codes`, M x dim. None if a checkpoint brings
            the codes.
        jitter: Standard deviation of the noise, as a multiple of each column's own.

    Raises:
        ValueError: `jitter` is negative; from `build`, the file is missing, damaged, or has no codes of that width.
    """

    initial_weights = ("codes",)

    def __init__(self, codes: str | None = CODES, jitter: float = 0.0) -> None:
        if not 0 <= jitter < math.inf:
            raise ValueError(f"jitter is {jitter}; it must be at least 0")
        self.codes = codes
        self.jitter = jitter

    def build(self, dim: int) -> PriorDistribution:
        codes = torch.empty(0, dim) if self.codes is None else read_codes(self.codes, dim)
        return EmpiricalDistribution(codes, self.jitter)


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
