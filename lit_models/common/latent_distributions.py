"""Distributions of the code of a VAE, to be injected into it: posterior, prior, and the divergence between them."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.capabilities import LatentBlock
from lit_models.common.code_distributions import (
    CodeDistribution,
    GaussianPosterior,
    LatentDistribution,
    LearnedGaussian,
)
from lit_models.common.learned_posteriors import FlowPosterior
from lit_models.common.learned_priors import LearnedPrior, VampPrior
from lit_models.common.module import ImageShape
from lit_models.common.priors import Normal


class Gaussian(LatentDistribution):
    """q = N(mu, diag(sigma^2)), p = N(0, I); z = mu + sigma eps (Kingma and Welling 2013, arXiv 1312.6114).

    KL = 1/2 sum (mu^2 + sigma^2 - 1 - log sigma^2), their appendix B. Parameters: d means, d log-variances. With a
    posterior or a prior that has parameters, the divergence is log q(z|x) - log p(z) at one draw z.

    Args:
        posterior: What makes a richer posterior out of the Gaussian; by default it stays Gaussian.
        prior: Normal, which is N(0, I) and the default, or a learned prior.

    Raises:
        ValueError: the prior is a mixture of Gaussian posteriors, and the posterior is not Gaussian.

    Examples:
        >>> Gaussian().kl(torch.zeros(2, 6))
        tensor([0., 0.])
    """

    def __init__(self, posterior: FlowPosterior | None = None, prior: Normal | LearnedPrior | None = None) -> None:
        if posterior is not None and isinstance(prior, VampPrior):
            raise ValueError("VampPrior is a mixture of Gaussian posteriors: leave out posterior, or give FlowPrior")
        self.posterior = posterior
        self.prior = prior

    @property
    def in_closed_form(self) -> bool:
        """Whether the posterior is Gaussian and the prior N(0, I), so that nothing but the encoder has parameters."""
        return self.posterior is None and not isinstance(self.prior, LearnedPrior)

    def build(self, d: int, encoder: nn.Module, image_shape: ImageShape) -> CodeDistribution:
        if self.in_closed_form:
            return self
        learned = self.prior if isinstance(self.prior, LearnedPrior) else None
        prior = learned.build(d, encoder, image_shape) if learned else Normal().build(d)
        flow = None if self.posterior is None else self.posterior.build(d)
        return LearnedGaussian(GaussianPosterior(d, flow), prior)

    def param_dims(self, d: int) -> list[int]:
        return [2 * d + (0 if self.posterior is None else self.posterior.context(d))]

    def latent_blocks(self, d: int) -> list[LatentBlock]:
        return [LatentBlock("continuous", 0, d)]

    def kl(self, params: Tensor) -> Tensor:
        mean, log_var = params.chunk(2, dim=1)
        return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(dim=1)

    def rsample(self, params: Tensor, step: Tensor) -> Tensor:
        mean, log_var = params.chunk(2, dim=1)
        return mean + (0.5 * log_var).exp() * torch.randn_like(mean)

    def sample_with_log_ratio(self, params: Tensor, k: int) -> tuple[Tensor, Tensor]:
        mean, log_var = params.chunk(2, dim=1)
        noise = torch.randn(k, *mean.shape, device=mean.device, dtype=mean.dtype)
        codes = mean + (0.5 * log_var).exp() * noise
        log_ratio = 0.5 * (noise.square() + log_var - codes.square()).sum(dim=2)  # the constants cancel
        return codes, log_ratio

    def mode(self, params: Tensor) -> Tensor:
        return params.chunk(2, dim=1)[0]

    def sample_prior(self, n: int, d: int, device: torch.device) -> Tensor:
        return torch.randn(n, d, device=device)


class GumbelSoftmax(LatentDistribution):
    """d categorical variables with a uniform prior, relaxed in training by the Gumbel-softmax.

    y = softmax((log pi + g) / tau), g = -log(-log u) (Jang et al. 2016, arXiv 1611.01144, eq. 2; Maddison et al. 2016,
    arXiv 1611.00712), tau = max(min_temperature, temperature exp(-anneal_rate t)) after t optimizer steps.
    KL = sum pi log(pi K) is that of the categorical distribution itself. Evaluation draws one-hot, not relaxed, codes.

    Args:
        categories: Number K of categories of each variable.
        temperature: Temperature tau before the first step.
        min_temperature: Lowest temperature.
        anneal_rate: Rate of the exponential decay of the temperature, per optimizer step.
        straight_through: Uses one-hot codes in the forward pass and the gradient of the relaxed ones in the backward
            pass.

    Raises:
        ValueError: there are fewer than two categories, a temperature is not positive, or it does not fall.

    Examples:
        >>> GumbelSoftmax(categories=5).code_dim(2)
        10
    """

    def __init__(
        self,
        categories: int = 20,
        temperature: float = 1.0,
        min_temperature: float = 0.5,
        anneal_rate: float = 1e-4,
        straight_through: bool = False,
    ) -> None:
        if categories < 2:
            raise ValueError(f"categories is {categories}; it must be at least 2")
        if not 0 < min_temperature <= temperature or anneal_rate < 0:
            raise ValueError(
                f"temperature is {temperature}, min_temperature {min_temperature}, anneal_rate {anneal_rate}:"
                " they need 0 < min_temperature <= temperature and anneal_rate >= 0"
            )
        self.categories = categories
        self.temperature = temperature
        self.min_temperature = min_temperature
        self.anneal_rate = anneal_rate
        self.straight_through = straight_through

    def temperature_at(self, step: Tensor) -> Tensor:
        """Temperature tau after `step` optimizer steps, on the device of `step`."""
        return (self.temperature * torch.exp(-self.anneal_rate * step.float())).clamp(min=self.min_temperature)

    def param_dims(self, d: int) -> list[int]:
        return [d * self.categories]

    def latent_blocks(self, d: int) -> list[LatentBlock]:
        return [LatentBlock("categorical", 0, d * self.categories, self.categories)]

    def _log_probs(self, params: Tensor) -> Tensor:
        return params.unflatten(1, (-1, self.categories)).log_softmax(dim=2)  # (N, d, K)

    def kl(self, params: Tensor) -> Tensor:
        log_probs = self._log_probs(params)
        return (log_probs.exp() * (log_probs + math.log(self.categories))).sum(dim=(1, 2))

    def rsample(self, params: Tensor, step: Tensor) -> Tensor:
        log_probs = self._log_probs(params)
        gumbel = -torch.empty_like(log_probs).exponential_().log()
        relaxed = ((log_probs + gumbel) / self.temperature_at(step)).softmax(dim=2)
        if self.straight_through:
            hard = F.one_hot(relaxed.argmax(dim=2), self.categories).to(relaxed.dtype)
            relaxed = hard + relaxed - relaxed.detach()
        return relaxed.flatten(1)

    def sample_with_log_ratio(self, params: Tensor, k: int) -> tuple[Tensor, Tensor]:
        log_probs = self._log_probs(params)
        gumbel = -torch.empty(k, *log_probs.shape, device=params.device, dtype=params.dtype).exponential_().log()
        picked = (log_probs + gumbel).argmax(dim=3)  # (k, N, d), the Gumbel-max trick
        log_q = log_probs.expand_as(gumbel).gather(3, picked[..., None]).sum(dim=(2, 3))
        log_p = -picked.shape[2] * math.log(self.categories)
        return F.one_hot(picked, self.categories).to(params.dtype).flatten(2), log_p - log_q

    def mode(self, params: Tensor) -> Tensor:
        probabilities = self._log_probs(params).exp()
        one_hot = F.one_hot(probabilities.argmax(dim=2), self.categories).to(params.dtype)
        return (one_hot + (probabilities - probabilities.detach())).flatten(1)  # gradient of the probabilities

    def sample_prior(self, n: int, d: int, device: torch.device) -> Tensor:
        return self._one_hot(torch.randint(self.categories, (n, d), device=device))

    def _one_hot(self, categories: Tensor) -> Tensor:
        return F.one_hot(categories, self.categories).float().flatten(1)


class Joint(LatentDistribution):
    """d Gaussian dimensions and, independent of them, categorical variables.

    Each of the two blocks has an encoder of its own; the decoder takes both blocks concatenated, and the divergences
    are added (Dupont 2018, arXiv 1804.00104, without its capacities).

    Args:
        categories: Number K of categories of each categorical variable.
        variables: Number of categorical variables; as many as Gaussian dimensions by default.
        temperature: Temperature of the Gumbel-softmax before the first step.
        min_temperature: Lowest temperature.
        anneal_rate: Rate of the exponential decay of the temperature, per optimizer step.
        straight_through: Uses one-hot codes in the forward pass and the gradient of the relaxed ones in the backward
            pass.

    Raises:
        ValueError: there are fewer than two categories or no variable, a temperature is not positive, or it does not
            fall.

    Examples:
        >>> Joint(categories=5, variables=1).code_dim(2)
        7
    """

    def __init__(
        self,
        categories: int = 20,
        variables: int | None = None,
        temperature: float = 1.0,
        min_temperature: float = 0.5,
        anneal_rate: float = 1e-4,
        straight_through: bool = False,
    ) -> None:
        if variables is not None and variables < 1:
            raise ValueError(f"variables is {variables}; it must be at least 1, or use Gaussian")
        self.categories = categories
        self.variables = variables
        self.temperature = temperature
        self.min_temperature = min_temperature
        self.anneal_rate = anneal_rate
        self.straight_through = straight_through
        self._gaussian = Gaussian()
        self._categorical = GumbelSoftmax(categories, temperature, min_temperature, anneal_rate, straight_through)

    def param_dims(self, d: int) -> list[int]:
        return self._gaussian.param_dims(d) + self._categorical.param_dims(self.variables or d)

    def latent_blocks(self, d: int) -> list[LatentBlock]:
        stop = d + (self.variables or d) * self.categories
        return [LatentBlock("continuous", 0, d), LatentBlock("categorical", d, stop, self.categories)]

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of the Gaussian and of the categorical block."""
        width = params.shape[1]
        d = (
            width // (2 + self.categories)
            if self.variables is None
            else (width - self.variables * self.categories) // 2
        )
        return params[:, : 2 * d], params[:, 2 * d :]

    def kl(self, params: Tensor) -> Tensor:
        gaussian, categorical = self._split(params)
        return self._gaussian.kl(gaussian) + self._categorical.kl(categorical)

    def rsample(self, params: Tensor, step: Tensor) -> Tensor:
        gaussian, categorical = self._split(params)
        return torch.cat([self._gaussian.rsample(gaussian, step), self._categorical.rsample(categorical, step)], dim=1)

    def sample_with_log_ratio(self, params: Tensor, k: int) -> tuple[Tensor, Tensor]:
        (gaussian, gaussian_ratio), (categorical, categorical_ratio) = (
            distribution.sample_with_log_ratio(own, k)
            for distribution, own in zip((self._gaussian, self._categorical), self._split(params), strict=True)
        )
        return torch.cat([gaussian, categorical], dim=2), gaussian_ratio + categorical_ratio

    def mode(self, params: Tensor) -> Tensor:
        gaussian, categorical = self._split(params)
        return torch.cat([self._gaussian.mode(gaussian), self._categorical.mode(categorical)], dim=1)

    def sample_prior(self, n: int, d: int, device: torch.device) -> Tensor:
        categorical = self._categorical.sample_prior(n, self.variables or d, device)
        return torch.cat([self._gaussian.sample_prior(n, d, device), categorical], dim=1)
