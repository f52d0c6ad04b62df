"""Laws of a variational code: its posterior given the encoder's output, its prior, the divergence between them."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_models.common.capabilities import LatentBlock
from lit_models.common.component import Component


class LatentDistribution(Component, ABC):
    """q(z|x) from parameters that the encoder gives, p(z), and KL(q || p). `d` is the model's `latent_dim`."""

    @abstractmethod
    def param_dims(self, d: int) -> list[int]:
        """Widths of the parameters; each comes from an encoder of its own."""

    @abstractmethod
    def parts(self, d: int) -> list[LatentBlock]:
        """What the columns of a code are."""

    @abstractmethod
    def kl(self, params: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) in nats, N, summed over the dimensions of the code."""

    @abstractmethod
    def rsample(self, params: Tensor, step: Tensor) -> Tensor:
        """A differentiable draw of q(z|x), N x code_dim, after `step` optimizer steps."""

    @abstractmethod
    def draw(self, params: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """k exact draws of q(z|x), k x N x code_dim, and log p(z) - log q(z|x) of each, k x N."""

    @abstractmethod
    def code(self, params: Tensor) -> Tensor:
        """The one code that stands for q(z|x), N x code_dim: means, and most probable categories.

        It can be trained through: categories pass on the gradient of their probabilities.
        """

    @abstractmethod
    def prior(self, n: int, d: int, device: torch.device) -> Tensor:
        """n draws of p(z), n x code_dim."""

    def code_dim(self, d: int) -> int:
        return self.parts(d)[-1].stop


class Gaussian(LatentDistribution):
    """q = N(mu, diag(sigma^2)), p = N(0, I); z = mu + sigma eps (Kingma and Welling 2013, arXiv 1312.6114).

    KL = 1/2 sum (mu^2 + sigma^2 - 1 - log sigma^2), their appendix B. Parameters: d means, d log-variances.
    """

    def param_dims(self, d: int) -> list[int]:
        return [2 * d]

    def parts(self, d: int) -> list[LatentBlock]:
        return [LatentBlock("continuous", 0, d)]

    def kl(self, params: Tensor) -> Tensor:
        mean, log_var = params.chunk(2, dim=1)
        return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(dim=1)

    def rsample(self, params: Tensor, step: Tensor) -> Tensor:
        mean, log_var = params.chunk(2, dim=1)
        return mean + (0.5 * log_var).exp() * torch.randn_like(mean)

    def draw(self, params: Tensor, k: int) -> tuple[Tensor, Tensor]:
        mean, log_var = params.chunk(2, dim=1)
        noise = torch.randn(k, *mean.shape, device=mean.device, dtype=mean.dtype)
        codes = mean + (0.5 * log_var).exp() * noise
        log_ratio = 0.5 * (noise.square() + log_var - codes.square()).sum(dim=2)  # the constants cancel
        return codes, log_ratio

    def code(self, params: Tensor) -> Tensor:
        return params.chunk(2, dim=1)[0]

    def prior(self, n: int, d: int, device: torch.device) -> Tensor:
        return torch.randn(n, d, device=device)


class GumbelSoftmax(LatentDistribution):
    """d categorical variables, uniform a priori, relaxed in training by the Gumbel-softmax.

    y = softmax((log pi + g) / tau), g = -log(-log u) (Jang et al. 2016, arXiv 1611.01144, eq. 2; Maddison et al. 2016,
    arXiv 1611.00712), tau = max(min_temperature, temperature exp(-anneal_rate step)), step counting the optimizer's.
    KL = sum pi log(pi K), that of the categorical itself. Evaluation draws true categories, not relaxed ones.

    Args:
        categories: K, of each variable.
        temperature: tau before the first step.
        min_temperature: what tau falls to.
        anneal_rate: of the fall, per step.
        straight_through: one-hot draws forward, the relaxed ones' gradient backward.

    Raises:
        ValueError: fewer than two categories, or temperatures that are not positive and falling.
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
            raise ValueError(f"categories is {categories}; a variable needs at least 2")
        if not 0 < min_temperature <= temperature or anneal_rate < 0:
            raise ValueError(
                f"temperature is {temperature}, min_temperature {min_temperature}, anneal_rate {anneal_rate}:"
                " the temperature falls from the first to the second, both positive, at a rate of at least 0"
            )
        self.categories = categories
        self.temperature = temperature
        self.min_temperature = min_temperature
        self.anneal_rate = anneal_rate
        self.straight_through = straight_through

    def temperature_at(self, step: Tensor) -> Tensor:
        """tau after `step` optimizer steps, on the step's device."""
        return (self.temperature * torch.exp(-self.anneal_rate * step.float())).clamp(min=self.min_temperature)

    def param_dims(self, d: int) -> list[int]:
        return [d * self.categories]

    def parts(self, d: int) -> list[LatentBlock]:
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

    def draw(self, params: Tensor, k: int) -> tuple[Tensor, Tensor]:
        log_probs = self._log_probs(params)
        gumbel = -torch.empty(k, *log_probs.shape, device=params.device, dtype=params.dtype).exponential_().log()
        picked = (log_probs + gumbel).argmax(dim=3)  # (k, N, d), the Gumbel-max trick
        log_q = log_probs.expand_as(gumbel).gather(3, picked[..., None]).sum(dim=(2, 3))
        log_p = -picked.shape[2] * math.log(self.categories)
        return F.one_hot(picked, self.categories).to(params.dtype).flatten(2), log_p - log_q

    def code(self, params: Tensor) -> Tensor:
        probabilities = self._log_probs(params).exp()
        one_hot = F.one_hot(probabilities.argmax(dim=2), self.categories).to(params.dtype)
        return (one_hot + (probabilities - probabilities.detach())).flatten(1)  # with the probabilities' gradient

    def prior(self, n: int, d: int, device: torch.device) -> Tensor:
        return self._one_hot(torch.randint(self.categories, (n, d), device=device))

    def _one_hot(self, categories: Tensor) -> Tensor:
        return F.one_hot(categories, self.categories).float().flatten(1)


class Joint(LatentDistribution):
    """d Gaussian dimensions and categorical variables beside them, independent of one another.

    Each half has its own encoder; the decoder takes both codes side by side (Dupont 2018, arXiv 1804.00104, without
    its capacities). The divergences add up.

    Args:
        categories: of each categorical variable.
        variables: how many of them; as many as the Gaussian dimensions by default.
        temperature, min_temperature, anneal_rate, straight_through: as in GumbelSoftmax.
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
            raise ValueError(f"variables is {variables}; without any the law is Gaussian")
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

    def parts(self, d: int) -> list[LatentBlock]:
        stop = d + (self.variables or d) * self.categories
        return [LatentBlock("continuous", 0, d), LatentBlock("categorical", d, stop, self.categories)]

    def _split(self, params: Tensor) -> tuple[Tensor, Tensor]:
        width = params.shape[1]
        d = (
            width // (2 + self.categories)
            if self.variables is None
            else (width - self.variables * self.categories) // 2
        )
        return params[:, : 2 * d], params[:, 2 * d :]

    def kl(self, params: Tensor) -> Tensor:
        real, category = self._split(params)
        return self._gaussian.kl(real) + self._categorical.kl(category)

    def rsample(self, params: Tensor, step: Tensor) -> Tensor:
        real, category = self._split(params)
        return torch.cat([self._gaussian.rsample(real, step), self._categorical.rsample(category, step)], dim=1)

    def draw(self, params: Tensor, k: int) -> tuple[Tensor, Tensor]:
        (real, real_ratio), (category, category_ratio) = (
            law.draw(part, k)
            for law, part in zip((self._gaussian, self._categorical), self._split(params), strict=True)
        )
        return torch.cat([real, category], dim=2), real_ratio + category_ratio

    def code(self, params: Tensor) -> Tensor:
        real, category = self._split(params)
        return torch.cat([self._gaussian.code(real), self._categorical.code(category)], dim=1)

    def prior(self, n: int, d: int, device: torch.device) -> Tensor:
        category = self._categorical.prior(n, self.variables or d, device)
        return torch.cat([self._gaussian.prior(n, d, device), category], dim=1)
