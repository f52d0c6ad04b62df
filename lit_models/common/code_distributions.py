"""What a VAE asks of the distribution of its code, and Gaussian codes with a learned prior or a flow as posterior."""

import math
from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn

from lit_models.common.capabilities import LatentBlock
from lit_models.common.component import Component
from lit_models.common.module import ImageShape
from lit_models.common.prior_distributions import PriorDistribution
from lit_models.networks.autoregressive_flow import AutoregressiveFlow


class HasMode(Protocol):
    """Posterior q(z|x) whose parameters, `params`, N x P, are the encoder's outputs."""

    def mode(self, params: Tensor) -> Tensor:
        """The code that stands for an image: N x code_dim."""


class CodeDistribution(ABC):
    """Posterior q(z|x) and prior p(z) of a VAE's code.

    `params` are the encoder's outputs, N x P. Codes are N x code_dim.
    """

    @abstractmethod
    def mode(self, params: Tensor) -> Tensor:
        """The code that stands for an image, N x code_dim: means, and most probable categories.

        It is differentiable: the gradient of a one-hot code is that of the probabilities.
        """

    @abstractmethod
    def without_prior(self) -> HasMode:
        """What `mode` needs; a module if it has parameters."""

    @abstractmethod
    def sample_with_kl(self, params: Tensor, step: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draws from q(z|x), N x code_dim, and returns KL(q || p) in nats or its estimate by that draw, N.

        Args:
            params: Parameters of q.
            step: Number of optimizer steps, for a draw in training, which is differentiable and may be relaxed; None
                for an exact draw.
        """

    @abstractmethod
    def sample_with_log_ratio(self, params: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Draws k exact samples of q(z|x), k x N x code_dim, and returns log p(z) - log q(z|x) of each, k x N."""

    @abstractmethod
    def sample_prior(self, n: int, d: int, device: torch.device) -> Tensor:
        """Draws n samples of p(z), n x code_dim."""


class LatentDistribution(Component, CodeDistribution, ABC):
    """Component that describes posterior and prior of a code; it is the distribution itself unless it has parameters.

    `d` is the model's `latent_dim`. `params` are the encoder's outputs, N x P, where P is the sum of `param_dims(d)`.
    """

    def build(self, d: int, encoder: nn.Module, image_shape: ImageShape) -> CodeDistribution:
        """The distribution: a module with its parameters, or this object if it has none.

        Args:
            d: The model's `latent_dim`.
            encoder: The model's encoder: N x C x H x W -> params, N x P.
            image_shape: Channels, height, width of the images.
        """
        return self

    def without_prior(self) -> "LatentDistribution":
        return self

    @abstractmethod
    def param_dims(self, d: int) -> list[int]:
        """Widths of the groups of parameters. A separate encoder computes each group."""

    @abstractmethod
    def latent_blocks(self, d: int) -> list[LatentBlock]:
        """Meaning of the columns of a code."""

    @abstractmethod
    def kl(self, params: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) in nats, summed over the dimensions of the code: N."""

    @abstractmethod
    def rsample(self, params: Tensor, step: Tensor) -> Tensor:
        """Draws differentiably from q(z|x) after `step` optimizer steps: N x code_dim."""

    def sample_with_kl(self, params: Tensor, step: Tensor | None = None) -> tuple[Tensor, Tensor]:
        codes = self.sample_with_log_ratio(params, 1)[0][0] if step is None else self.rsample(params, step)
        return codes, self.kl(params)

    def code_dim(self, d: int) -> int:
        """Width of a code."""
        return self.latent_blocks(d)[-1].stop


class GaussianPosterior(nn.Module):
    """q(z|x) = N(mu, diag(sigma^2)), or the distribution of f(z_0; h) for z_0 of this Gaussian and a flow f.

    log q(z|x) = log N(z_0; mu, diag(sigma^2)) - log |det df/dz_0|.

    Args:
        d: Number of dimensions.
        flow: Flow f, with a context h; None for the Gaussian.
    """

    def __init__(self, d: int, flow: AutoregressiveFlow | None) -> None:
        super().__init__()
        self.d = d
        self.flow = flow

    def sample(self, params: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Draws k samples, k x N x d, differentiably, and returns log q(z|x) of each, k x N."""
        mean, log_var, context = self._split(params)
        noise = torch.randn(k, *mean.shape, device=mean.device, dtype=mean.dtype)
        codes = mean + (0.5 * log_var).exp() * noise
        log_q = -0.5 * (noise.square() + log_var + math.log(2 * math.pi)).sum(dim=2)
        if self.flow is None:
            return codes, log_q
        codes, log_det = self.flow(codes, context)
        return codes, log_q - log_det

    def mode(self, params: Tensor) -> Tensor:
        """The mean mu, or f(mu; h): N x d."""
        mean, _, context = self._split(params)
        return mean if self.flow is None else self.flow(mean, context)[0].to(params.dtype)

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return params[:, : self.d], params[:, self.d : 2 * self.d], params[:, 2 * self.d :]


class LearnedGaussian(nn.Module, CodeDistribution):
    """A Gaussian posterior, with or without a flow, and a prior; the divergence is estimated by one draw.

    Args:
        posterior: Posterior q(z|x).
        prior: Prior p(z).
    """

    def __init__(self, posterior: GaussianPosterior, prior: PriorDistribution) -> None:
        super().__init__()
        self.posterior = posterior
        self.prior = prior

    def mode(self, params: Tensor) -> Tensor:
        return self.posterior.mode(params)

    def without_prior(self) -> HasMode:
        return self.posterior

    def sample_with_kl(self, params: Tensor, step: Tensor | None = None) -> tuple[Tensor, Tensor]:
        codes, log_ratio = self.sample_with_log_ratio(params, 1)
        return codes[0], -log_ratio[0]

    def sample_with_log_ratio(self, params: Tensor, k: int) -> tuple[Tensor, Tensor]:
        codes, log_q = self.posterior.sample(params, k)
        log_p = self.prior.log_prob(codes.flatten(0, 1)).view(k, -1)
        return codes, log_p - log_q

    def sample_prior(self, n: int, d: int, device: torch.device) -> Tensor:
        return self.prior.sample(n)
