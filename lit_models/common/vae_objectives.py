"""Objectives of a VAE: what it minimises, from the encoder's outputs for a batch of images."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_models.common.code_distributions import CodeDistribution
from lit_models.common.component import Component
from lit_models.common.latent_distributions import Gaussian, LatentDistribution
from lit_models.losses.variational import Sampling, decompose_kl, importance_weighted_bound, normal_log_density


@dataclass(frozen=True)
class EncodedBatch:
    """A batch of N images x, as an objective sees it."""

    params: Tensor
    """The encoder's outputs, N x P, float32."""
    distribution: CodeDistribution
    """Posterior q(z|x) and prior p(z)."""
    log_likelihood: Callable[[Tensor], Tensor]
    """k codes for each image, k x N x code_dim -> log p(x|z) in nats, k x N."""
    kl_weight: Tensor | float
    """Weight of the divergence."""
    step: Tensor | None = None
    """Number of optimizer steps in training, None in evaluation."""
    step_number: int = 0
    """The same as a Python number, which needs no wait for the device."""
    num_images: int = 1
    """Number of images in the training data; at least N."""


class VAEObjective(Component, ABC):
    """What a VAE minimises in training. In validation and test, all are compared by the evidence lower bound."""

    samples: int = 1
    """Number of samples of the bound that is minimised; with more than one, validation logs that bound too, as `bound`,
    and chooses the best checkpoint by it."""
    needs_num_images: bool = False
    """Whether it needs the number of training images."""

    def check(self, distribution: LatentDistribution) -> None:
        """Refuses distributions of the code that the objective is not defined for.

        Raises:
            ValueError: it is not defined for this one.
        """

    @abstractmethod
    def loss_terms(self, batch: EncodedBatch) -> dict[str, Tensor]:
        """Named scalars in nats, each a mean over images. The first one is minimised."""


class ELBO(VAEObjective):
    """-E_q(z|x)[log p(x|z)] + w KL(q(z|x) || p(z)), the negative evidence lower bound for w = 1, by one sample of q.

    Kingma and Welling 2013, arXiv 1312.6114, eq. 3.
    """

    def loss_terms(self, batch: EncodedBatch) -> dict[str, Tensor]:
        codes, kl = batch.distribution.sample_with_kl(batch.params, batch.step)
        reconstruction = -batch.log_likelihood(codes[None]).mean()
        kl = kl.mean()
        return {"loss": reconstruction + batch.kl_weight * kl, "reconstruction": reconstruction, "kl": kl}


class ImportanceWeighted(VAEObjective):
    """-log 1/k sum_i p(x|z_i) (p(z_i) / q(z_i|x))^w by k samples z_i of q(z|x), a tighter bound for w = 1.

    Importance-weighted autoencoder: Burda et al. 2015, arXiv 1509.00519, eq. 8. All samples are decoded at once. The
    gradient is sum_i w_i grad log w_i / sum_j w_j, with w_i the i-th term of the sum. With `gradient_samples`, it is
    estimated without bias by samples that are drawn with probabilities w_i / sum_j w_j, and the others are decoded
    without gradient. With `warmup_steps`, which is not in the paper, training begins with the cheaper bounds of fewer
    samples: k^(t / warmup_steps) of them after t steps.

    Args:
        samples: Number k of samples.
        gradient_samples: Number of samples whose gradient is computed; all by default.
        warmup_steps: Number of optimizer steps in which the number of samples rises from 1 to k.

    Raises:
        ValueError: a number is too small, or `gradient_samples` is above `samples`; from `check`, the code is not
            Gaussian.
    """

    def __init__(self, samples: int = 50, gradient_samples: int | None = None, warmup_steps: int = 0) -> None:
        drawn = samples if gradient_samples is None else gradient_samples
        if not 1 <= drawn <= samples or warmup_steps < 0:
            raise ValueError(
                f"samples is {samples}, gradient_samples {gradient_samples} and warmup_steps {warmup_steps}; they need"
                " 1 <= gradient_samples <= samples and warmup_steps at least 0"
            )
        self.samples = samples
        self.gradient_samples = gradient_samples
        self.warmup_steps = warmup_steps

    def samples_at(self, step: int) -> int:
        """Number of samples after `step` optimizer steps."""
        return self.samples if step >= self.warmup_steps else round(self.samples ** (step / self.warmup_steps))

    def check(self, distribution: LatentDistribution) -> None:
        if not isinstance(distribution, Gaussian):
            raise ValueError("ImportanceWeighted needs samples with a gradient: give latent_distribution Gaussian")

    def loss_terms(self, batch: EncodedBatch) -> dict[str, Tensor]:
        k = self.samples_at(batch.step_number)
        codes, log_ratio = batch.distribution.sample_with_log_ratio(batch.params, k)
        if self.gradient_samples is None or k <= self.gradient_samples:
            log_weights = batch.log_likelihood(codes) + batch.kl_weight * log_ratio  # (k, N)
            return {"loss": -importance_weighted_bound(log_weights).mean()}
        with torch.no_grad():
            log_weights = batch.log_likelihood(codes) + batch.kl_weight * log_ratio
            gumbel = -log_weights.new_empty(self.gradient_samples, *log_weights.shape).exponential_().log()
            drawn = (log_weights + gumbel).argmax(dim=1)  # (m, N), sample i with probability w_i / sum_j w_j
        torch.clear_autocast_cache()  # it holds the decoder's weights without gradient
        codes = codes.gather(0, drawn[..., None].expand(-1, -1, codes.shape[2]))
        surrogate = (batch.log_likelihood(codes) + batch.kl_weight * log_ratio.gather(0, drawn)).mean()
        bound = importance_weighted_bound(log_weights).mean()
        return {"loss": -(bound + surrogate - surrogate.detach())}


class TotalCorrelation(VAEObjective):
    """-E_q(z|x)[log p(x|z)] + w (KL(q(z|x) || p(z)) + (b - 1) TC), where dependent dimensions of the code cost more.

    TC = KL(q(z) || prod_j q(z_j)) is the total correlation of q(z), the mean of q(z|x) over the images. beta-TCVAE:
    Chen et al. 2018, arXiv 1802.04942, eq. 4 with alpha = gamma = 1 and beta = b. The divergence is in closed form; its
    three parts, which are logged in training, are estimated from the batch.

    Args:
        weight: Weight b of the total correlation.
        sampling: How the density q(z) of all images' codes is estimated: by `weighted` or `stratified` minibatches.

    Raises:
        ValueError: `weight` is negative; from `check`, the code is not Gaussian with a prior of independent dimensions.
    """

    needs_num_images = True

    def __init__(self, weight: float = 6.0, sampling: Sampling = "weighted") -> None:
        if not weight >= 0:
            raise ValueError(f"weight is {weight}; it must be at least 0")
        self.weight = weight
        self.sampling: Sampling = sampling

    def check(self, distribution: LatentDistribution) -> None:
        if not isinstance(distribution, Gaussian) or not distribution.in_closed_form:
            raise ValueError(
                "TotalCorrelation needs latent_distribution Gaussian, without a posterior or prior of its own"
            )

    def loss_terms(self, batch: EncodedBatch) -> dict[str, Tensor]:
        codes, kl = batch.distribution.sample_with_kl(batch.params, batch.step)  # (N, d), (N,)
        mean, log_var = batch.params.chunk(2, dim=1)
        log_q = normal_log_density(codes[:, None], mean, log_var)  # (N, N, d)
        parts = decompose_kl(log_q, normal_log_density(codes), batch.num_images, self.sampling)
        reconstruction = -batch.log_likelihood(codes[None]).mean()
        divergence = kl.mean() + (self.weight - 1) * parts.total_correlation
        loss = reconstruction + batch.kl_weight * divergence
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl.mean(), **parts._asdict()}
