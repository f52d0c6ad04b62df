import math
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.capabilities import LatentBlock, refuse_label
from lit_models.common.encoder_decoders import MLPNetworks, Networks
from lit_models.common.latent_distributions import Gaussian, LatentDistribution
from lit_models.common.module import ImageShape
from lit_models.common.schedules import Schedule
from lit_models.losses.likelihood import LikelihoodKind, log_likelihood
from lit_models.networks.side_by_side import SideBySide

PIXELS_AT_ONCE = 2**23
"""Decoded pixels that an importance-sampled likelihood holds at a time."""


class VAE(AutoencoderBase):
    """Variational autoencoder: minimises E_q(z|x)[-log p(x|z)] + beta KL(q(z|x) || p(z)), in nats an image.

    Kingma and Welling 2013, arXiv 1312.6114; beta from Higgins et al. 2017 (beta-VAE). The divergence is summed over
    the code's dimensions, the likelihood over the pixels, and both are averaged over images. The latent_distribution of the code is
    injected: Gaussian, categorical by Gumbel-softmax, or both. Validation and test draw from the latent_distribution itself, where
    training may draw from a relaxed one, and use the full beta.

    Args:
        latent_dim: d; what it counts, the latent_distribution says.
        latent_distribution: of the code, Gaussian by default.
        networks: encoder and decoder, fully connected ones by default.
        likelihood: of a pixel, given its mean.
        likelihood_scale: of a gaussian or laplace likelihood.
        beta: weight of the divergence.
        kl_warmup_steps: optimizer steps over which the weight rises from 0 to beta (Bowman et al. 2015, 1511.06349).
        importance_samples: of `log_prob` and test/nll; 0 for no test/nll.
        schedule: how the learning rate goes: as it is, or one cycle over the whole training.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: a size, weight or scale that is too small.
    """

    monitor = ("val/loss", "min")
    optimizer_steps: Tensor

    def __init__(
        self,
        latent_dim: int = 20,
        latent_distribution: LatentDistribution | None = None,
        networks: Networks | None = None,
        likelihood: LikelihoodKind = "bernoulli",
        likelihood_scale: float = 0.1,
        beta: float = 1.0,
        kl_warmup_steps: int = 0,
        importance_samples: int = 0,
        schedule: Schedule = "constant",
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1 or not likelihood_scale > 0:
            raise ValueError(f"latent_dim is {latent_dim}, likelihood_scale {likelihood_scale}; both must be positive")
        if not beta >= 0 or kl_warmup_steps < 0 or importance_samples < 0:
            raise ValueError(
                f"beta is {beta}, kl_warmup_steps {kl_warmup_steps}, importance_samples {importance_samples};"
                " none may be negative"
            )
        self.save_hyperparameters()
        self.latent_dim = latent_dim
        self.latent_distribution = latent_distribution or Gaussian()
        self.networks = networks or MLPNetworks()
        self.likelihood: LikelihoodKind = likelihood
        self.likelihood_scale = likelihood_scale
        self.beta = beta
        self.kl_warmup_steps = kl_warmup_steps
        self.importance_samples = importance_samples
        self.schedule = schedule
        self.encoder = SideBySide(
            self.networks.encoder(image_shape, width) for width in self.latent_distribution.param_dims(latent_dim)
        )
        self.decoder = self.networks.decoder(image_shape, self.latent_distribution.code_dim(latent_dim))
        self.register_buffer("optimizer_steps", torch.zeros((), dtype=torch.int64))

    def encode(self, images: Tensor) -> Tensor:
        return self.latent_distribution.code(self.encoder(images))  # (N, code_dim)

    def encoder_network(self) -> nn.Module:
        return _Code(self.encoder, self.latent_distribution)

    def latent_blocks(self) -> list[LatentBlock]:
        return self.latent_distribution.parts(self.latent_dim)

    def sample_prior(self, n: int) -> Tensor:
        return self.latent_distribution.prior(n, self.latent_dim, self.device).to(self.dtype)

    def sample(self, n: int, label: int | None = None) -> Tensor:
        refuse_label(self, label)
        return self.decode(self.sample_prior(n))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.optimizer_steps.fill_(self.trainer.global_step)

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images = batch[0]
        params = self.encoder(images).float()
        if self.training:
            codes, weight = self.latent_distribution.rsample(params, self.optimizer_steps), self._kl_weight()
        else:
            codes, weight = self.latent_distribution.draw(params, 1)[0][0], self.beta
        reconstruction = -self._log_likelihood(codes, images).mean()
        kl = self.latent_distribution.kl(params).mean()
        return {"loss": reconstruction + weight * kl, "reconstruction": reconstruction, "kl": kl}

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        super().test_step(batch, batch_idx)
        if self.importance_samples:
            self.log_terms("test", {"nll": -self.log_prob(batch[0]).mean()}, len(batch[0]))

    def log_prob(self, images: Tensor) -> Tensor:
        """log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x) with K = `importance_samples` draws of q: nats, N.

        A lower bound of log p(x) on average, tighter with K (Burda et al. 2016, arXiv 1509.00519, eq. 8). The draws are
        decoded a few at a time, so that memory does not grow with K.
        """
        samples = max(self.importance_samples, 1)
        params = self.encoder(images).float()
        at_once = max(1, PIXELS_AT_ONCE // images.numel())
        total = params.new_full((len(images),), -math.inf)
        for done in range(0, samples, at_once):
            k = min(at_once, samples - done)
            codes, log_ratio = self.latent_distribution.draw(params, k)  # (k, N, code_dim), (k, N)
            repeated = images.expand(k, *images.shape).flatten(0, 1)
            log_joint = self._log_likelihood(codes.flatten(0, 1), repeated).view(k, -1) + log_ratio
            total = torch.logaddexp(total, log_joint.logsumexp(dim=0))
        return total - math.log(samples)

    def _log_likelihood(self, codes: Tensor, images: Tensor) -> Tensor:
        return log_likelihood(self.likelihood, self.decoder(codes.to(images.dtype)), images, self.likelihood_scale)

    def _kl_weight(self) -> Tensor | float:
        if not self.kl_warmup_steps:
            return self.beta
        return self.beta * ((self.optimizer_steps + 1) / self.kl_warmup_steps).clamp(max=1)


class _Code(nn.Module):
    """A VAE's encoder with the latent_distribution that turns its parameters into codes."""

    def __init__(self, encoder: nn.Module, latent_distribution: LatentDistribution) -> None:
        super().__init__()
        self.encoder = encoder
        self.latent_distribution = latent_distribution

    def forward(self, images: Tensor) -> Tensor:
        return self.latent_distribution.code(self.encoder(images))
