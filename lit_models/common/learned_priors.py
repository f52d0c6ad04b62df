"""Priors of a VAE that are learned with it: components, and the distributions that they build."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from lit_models.common.component import Component
from lit_models.common.module import ImageShape
from lit_models.common.prior_distributions import PriorDistribution, normal_log_prob
from lit_models.networks.autoregressive_flow import AutoregressiveFlow, FlowKind, check_flow


class LearnedPrior(Component, ABC):
    """Prior p(z) of a VAE with parameters of its own, which are trained with the model's."""

    @abstractmethod
    def build(self, dim: int, encoder: nn.Module, image_shape: ImageShape) -> PriorDistribution:
        """The distribution in `dim` dimensions.

        Args:
            dim: Number d of dimensions.
            encoder: The model's encoder: N x C x H x W -> means and log-variances, N x 2 d.
            image_shape: Channels, height, width of the images.
        """


class VampPrior(LearnedPrior):
    """p(z) = 1/K sum_k q(z|u_k), a mixture of the posteriors at K learned images u_k, the pseudo-inputs.

    Tomczak and Welling 2017, arXiv 1705.07120, eq. 9. Departure: the pseudo-inputs are kept in [0, 1] by a clamp that
    passes the gradient on, so that a pixel at 0 or 1 can still change.

    Args:
        components: Number K of pseudo-inputs.
        initial: Initial pseudo-inputs: training images, or noise about 0.05.

    Raises:
        ValueError: `components` is below 1.
    """

    def __init__(self, components: int = 500, initial: Literal["data", "random"] = "data") -> None:
        if components < 1:
            raise ValueError(f"components is {components}; it must be at least 1")
        self.components = components
        self.initial: Literal["data", "random"] = initial

    def build(self, dim: int, encoder: nn.Module, image_shape: ImageShape) -> PriorDistribution:
        return VampDistribution(dim, encoder, (self.components, *image_shape), self.initial == "data")


class FlowPrior(LearnedPrior):
    """p(z) = N(f(z); 0, I) |det df/dz| with an autoregressive flow f.

    Chen et al. 2016, arXiv 1611.02731, section 3.2. Samples are computed one dimension after the other.

    Args:
        kind: Kind of the maps: affine, or spline.
        maps: Number of autoregressive maps.
        hidden_dims: Widths of the hidden layers of each map's network.

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(self, kind: FlowKind = "affine", maps: int = 3, hidden_dims: tuple[int, ...] = (128, 128)) -> None:
        check_flow(maps, hidden_dims)
        self.kind: FlowKind = kind
        self.maps = maps
        self.hidden_dims = hidden_dims

    def build(self, dim: int, encoder: nn.Module, image_shape: ImageShape) -> PriorDistribution:
        return FlowDistribution(dim, AutoregressiveFlow(self.kind, dim, 0, self.maps, self.hidden_dims))


class VampDistribution(PriorDistribution):
    """Mixture of the posteriors at the pseudo-inputs.

    Args:
        dim: Number d of dimensions.
        encoder: N x C x H x W -> means and log-variances, N x 2 d. It stays the model's and is no submodule of this.
        shape: Shape of the pseudo-inputs, K x C x H x W.
        from_data: Whether `initialize` is to replace the random pseudo-inputs by training images.
    """

    initialized: Tensor

    def __init__(self, dim: int, encoder: nn.Module, shape: tuple[int, ...], from_data: bool) -> None:
        super().__init__(dim)
        self._encoder = (encoder,)
        self.pseudo_inputs = nn.Parameter(0.05 + 0.01 * torch.randn(shape))
        self.register_buffer("initialized", torch.tensor(not from_data))

    @torch.no_grad()
    def initialize(self, training_images: Callable[[int], Tensor]) -> None:
        """Sets the pseudo-inputs to training images, which must be the same in all processes, once.

        They are repeated where there are fewer. A small noise makes repeated ones differ.
        """
        if self.initialized:
            return
        count = len(self.pseudo_inputs)
        images = training_images(count)
        noise = torch.randn(self.pseudo_inputs.shape, generator=torch.Generator().manual_seed(0))
        self.pseudo_inputs.copy_(images[torch.arange(count) % len(images)].to(noise) + 0.01 * noise)
        self.initialized.fill_(True)

    def components(self) -> tuple[Tensor, Tensor]:
        """Means and log-variances of the components, K x d each, float32."""
        clamped = self.pseudo_inputs + (self.pseudo_inputs.clamp(0, 1) - self.pseudo_inputs).detach()
        mean, log_var = self._encoder[0](clamped).float().chunk(2, dim=1)
        return mean, log_var

    def sample(self, n: int) -> Tensor:
        mean, log_var = self.components()
        picked = torch.randint(len(mean), (n,), device=self.device)
        return mean[picked] + (0.5 * log_var[picked]).exp() * self.normal(n, self.dim)

    def log_prob(self, z: Tensor) -> Tensor:
        mean, log_var = self.components()
        each = gaussian_log_probs(z, mean, log_var)  # (N, K)
        return each.logsumexp(dim=1) - math.log(len(mean))


class FlowDistribution(PriorDistribution):
    """Distribution that a flow maps to N(0, I).

    Args:
        dim: Number d of dimensions.
        flow: Map from codes to noise.
    """

    def __init__(self, dim: int, flow: AutoregressiveFlow) -> None:
        super().__init__(dim)
        self.flow = flow

    def sample(self, n: int) -> Tensor:
        return self.flow.inverse(self.normal(n, self.dim))

    def log_prob(self, z: Tensor) -> Tensor:
        noise, log_det = self.flow(z)
        return normal_log_prob(noise.square().sum(dim=1), self.dim) + log_det


def gaussian_log_probs(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Log-density of each row of z, N x d, under each of K Gaussians of these means and log-variances, K x d: N x K.

    The squares are expanded into products of matrices, so that no N x K x d numbers are in memory. They are computed in
    double precision, where there is one, as their sum is much smaller than they are.
    """
    dtype = torch.float32 if z.device.type == "mps" else torch.float64
    z, mean, log_var = z.to(dtype), mean.to(dtype), log_var.to(dtype)
    precision = (-log_var).exp()
    squares = z.square() @ precision.T - 2 * z @ (mean * precision).T + (mean.square() * precision).sum(dim=1)
    constant = log_var.sum(dim=1) + z.shape[1] * math.log(2 * math.pi)
    return (-0.5 * (squares + constant)).float()
