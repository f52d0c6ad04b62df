import math
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.capabilities import LatentBlock, refuse_label
from lit_models.common.code_distributions import HasMode, LearnedGaussian
from lit_models.common.encoder_decoders import MLPNetworks, Networks
from lit_models.common.latent_distributions import Gaussian, LatentDistribution
from lit_models.common.lr_schedules import LRSchedule
from lit_models.common.module import ImageShape
from lit_models.common.prior_distributions import PriorDistribution
from lit_models.common.vae_objectives import ELBO, EncodedBatch, VAEObjective
from lit_models.losses.likelihood import LikelihoodKind, log_likelihood
from lit_models.networks.concat import ConcatOutputs

MAX_DECODED_PIXELS = 2**23
"""Number of decoded pixels that an importance-sampled likelihood holds in memory at a time."""


class VAE(AutoencoderBase):
    """Variational autoencoder: minimises E_q(z|x)[-log p(x|z)] + beta KL(q(z|x) || p(z)), in nats per image.

    Kingma and Welling 2013, arXiv 1312.6114; beta from Higgins et al. 2017 (beta-VAE). The divergence is summed over
    the dimensions of the code, the likelihood over the pixels, and both are averaged over images. The distribution of
    the code is a component: Gaussian, categorical by Gumbel-softmax, or both; a Gaussian code may have a flow as
    posterior and a learned prior. So is the objective: this bound, or another one. Training may draw relaxed
    categorical codes. Validation and test draw exact ones, and log this bound with the full beta for any objective.

    Args:
        latent_dim: Size d of the latent code: number of Gaussian dimensions, of categorical variables, or of both.
        latent_distribution: Posterior and prior of the code; Gaussian by default.
        networks: Encoder and decoder; MLPNetworks by default.
        likelihood: Distribution of a pixel given its mean.
        likelihood_scale: Standard deviation of a gaussian, or scale b of a laplace likelihood; bernoulli has none.
        beta: Weight of the divergence.
        kl_warmup_steps: Number of optimizer steps in which the weight of the divergence rises from 0 to beta (Bowman et
            al. 2015, arXiv 1511.06349).
        importance_samples: Number of samples of q(z|x) that estimate `log_prob` and test/nll; 0 to leave out test/nll.
        lr_schedule: Learning-rate schedule: `constant`, or `one_cycle` over the whole training.
        objective: What training minimises; ELBO, the bound above, by default.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: a size, weight or scale is too small, or the objective is not defined for the code's distribution.

    Examples:
        >>> model = VAE(latent_dim=2)
        >>> model.sample(4).shape
        torch.Size([4, 1, 28, 28])
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
        lr_schedule: LRSchedule = "constant",
        objective: VAEObjective | None = None,
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
        self.lr_schedule = lr_schedule
        self.objective = objective or ELBO()
        self.objective.check(self.latent_distribution)
        if self.objective.samples > 1:
            self.monitor = ("val/bound", "min")
        self.set_code_shape(self.networks, image_shape, self.latent_distribution.code_dim(latent_dim))
        if hasattr(self, "code_shape") and not isinstance(self.latent_distribution, Gaussian):
            raise ValueError("maps hold real numbers: give latent_distribution Gaussian, or networks without maps")
        self.encoder = ConcatOutputs(
            self.networks.build_encoder(image_shape, width) for width in self.latent_distribution.param_dims(latent_dim)
        )
        self.decoder = self.networks.build_decoder(image_shape, self.latent_distribution.code_dim(latent_dim))
        self.code_distribution = self.latent_distribution.build(latent_dim, self.encoder, image_shape)
        self.register_buffer("optimizer_steps", torch.zeros((), dtype=torch.int64))
        self._num_images = 1

    @property
    def prior(self) -> PriorDistribution | None:
        """The distribution p(z) of a code with a learned prior or posterior."""
        return self.code_distribution.prior if isinstance(self.code_distribution, LearnedGaussian) else None

    def encode(self, images: Tensor) -> Tensor:
        """N x C x H x W -> most probable codes, N x code_dim."""
        return self.code_distribution.mode(self.encoder(images))

    def encoder_network(self) -> nn.Module:
        return LatentMode(self.encoder, self.code_distribution.without_prior())

    def latent_blocks(self) -> list[LatentBlock]:
        return self.latent_distribution.latent_blocks(self.latent_dim)

    def sample_prior(self, n: int) -> Tensor:
        return self.code_distribution.sample_prior(n, self.latent_dim, self.device).to(self.dtype)

    def sample(self, n: int, label: int | None = None) -> Tensor:
        refuse_label(self, label)
        return self.decode(self.sample_prior(n))

    def setup(self, stage: str) -> None:
        """Initialises what depends on the data. When a run is resumed, its checkpoint is loaded after this."""
        super().setup(stage)
        if stage == "fit" and self.prior is not None:
            self.prior.initialize(self._training_images)

    def _training_images(self, n: int) -> Tensor:
        data = getattr(self.trainer, "datamodule", None)
        if data is None:
            raise MisconfigurationException(
                "VampPrior takes its first pseudo-inputs from a data module, but there is none: give one, or"
                " VampPrior(initial='random')"
            )
        return data.examples("train", n)[0]

    def on_train_start(self) -> None:
        if self.objective.needs_num_images:
            loader: Any = self.trainer.train_dataloader
            self._num_images = len(loader.index if hasattr(loader, "index") else loader.dataset)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.optimizer_steps.fill_(self.trainer.global_step)

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images = batch[0]
        params = self.encoder(images).float()
        if self.training:
            return self.objective.loss_terms(self._encoded(params, images))
        terms = ELBO().loss_terms(self._encoded(params, images))
        if self.objective.samples > 1:
            terms["bound"] = -self._bound(params, images, self.objective.samples).mean()
        return {**terms, "mse": self._squared_error(params, images)}

    def _encoded(self, params: Tensor, images: Tensor) -> EncodedBatch:
        return EncodedBatch(
            params,
            self.code_distribution,
            partial(self._log_likelihood, images=images),
            self._kl_weight() if self.training else self.beta,
            self.optimizer_steps if self.training else None,
            0 if self._trainer is None else self.trainer.global_step,
            max(self._num_images, len(images)),
        )

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        super().test_step(batch, batch_idx)
        if self.importance_samples:
            self.log_terms("test", {"nll": -self.log_prob(batch[0]).mean()}, len(batch[0]))

    def log_prob(self, images: Tensor) -> Tensor:
        """log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x) with K = `importance_samples` samples of q: nats, N.

        On average it is a lower bound of log p(x), which is tighter for a larger K (Burda et al. 2016, arXiv
        1509.00519, eq. 8). Samples are decoded a few at a time, so that memory does not grow with K.
        """
        return self._bound(self.encoder(images).float(), images, max(self.importance_samples, 1))

    def _bound(self, params: Tensor, images: Tensor, samples: int) -> Tensor:
        """The importance-weighted bound by `samples` samples: nats, N."""
        chunk = max(1, MAX_DECODED_PIXELS // images.numel())
        total = params.new_full((len(images),), -math.inf)
        for start in range(0, samples, chunk):
            k = min(chunk, samples - start)
            codes, log_ratio = self.code_distribution.sample_with_log_ratio(params, k)  # (k, N, code_dim), (k, N)
            log_joint = self._log_likelihood(codes, images) + log_ratio
            total = torch.logaddexp(total, log_joint.logsumexp(dim=0))
        return total - math.log(samples)

    def _squared_error(self, params: Tensor, images: Tensor) -> Tensor:
        """The error of `reconstruct`, which decodes the codes that `encode` returns."""
        codes = self.code_distribution.mode(params)
        return F.mse_loss(self.decode(codes.to(images.dtype)).float(), images)

    def _log_likelihood(self, codes: Tensor, images: Tensor) -> Tensor:
        """log p(x|z) of k codes for each image, k x N x code_dim: k x N."""
        logits = self.decoder(codes.flatten(0, 1).to(images.dtype))
        repeated = images.expand(len(codes), *images.shape).flatten(0, 1)
        return log_likelihood(self.likelihood, logits, repeated, self.likelihood_scale).view(len(codes), -1)

    def _kl_weight(self) -> Tensor | float:
        if not self.kl_warmup_steps:
            return self.beta
        return self.beta * ((self.optimizer_steps + 1) / self.kl_warmup_steps).clamp(max=1)


class LatentMode(nn.Module):
    """Encoder of a VAE, followed by the mode of the posterior.

    Args:
        encoder: Images, N x C x H x W -> parameters of the posterior.
        posterior: Posterior of the code.
    """

    def __init__(self, encoder: nn.Module, posterior: HasMode) -> None:
        super().__init__()
        self.encoder = encoder
        self.posterior = posterior

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x code_dim."""
        return self.posterior.mode(self.encoder(images))
