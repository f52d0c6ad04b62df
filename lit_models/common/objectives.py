"""Adversarial objectives: the losses that a discriminator and a generator minimise."""

from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn import functional as F

from lit_models.common.component import Component


class Objective(Component, ABC):
    """Losses of the discriminator's outputs: logits or unbounded real numbers, N, or N x h x w for patches."""

    needs_real: bool = False
    """Whether `generator` needs the discriminator's outputs on real images too."""
    gradient_penalty: float = 0.0
    """Weight of the gradient penalty in the discriminator's loss."""
    score_is_probability: bool = False
    """Whether `score` is a probability."""

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's loss, a mean, from its outputs on real and on generated images."""

    @abstractmethod
    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """The generator's loss, a mean, from the discriminator's outputs on generated images.

        Args:
            fake: Outputs on generated images.
            real: Outputs on as many real images; given only if the objective `needs_real`.
        """

    def score(self, logits: Tensor) -> Tensor:
        """The probability that each image is real if the objective defines one, else the discriminator's output."""
        return logits


class CrossEntropy(Objective):
    """D(x) is the probability that an image is real: D minimises -log D(x) - log(1 - D(G(z))).

    Args:
        label_smoothing: The target of real images is 1 minus this number (one-sided label smoothing, Salimans et al.
            2016, arXiv 1606.03498).

    Raises:
        ValueError: `label_smoothing` is not in [0, 0.5).
    """

    score_is_probability = True

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 0.5:
            raise ValueError(f"label_smoothing is {label_smoothing}; it must be at least 0 and below 0.5")
        self.label_smoothing = label_smoothing

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        on_real = F.softplus(-real) + self.label_smoothing * real  # -t log D - (1 - t) log(1 - D), t = 1 - smoothing
        return on_real.mean() + F.softplus(fake).mean()

    def score(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


class Minimax(CrossEntropy):
    """G minimises log(1 - D(G(z))): Goodfellow et al. 2014, arXiv 1406.2661, eq. 1.

    Its gradient vanishes where D is certain that an image is generated.

    Args:
        label_smoothing: The target of real images is 1 minus this number (one-sided label smoothing, Salimans et al.
            2016, arXiv 1606.03498).
    """

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -F.softplus(fake).mean()


class NonSaturating(CrossEntropy):
    """G minimises -log D(G(z)): Goodfellow et al. 2014, arXiv 1406.2661, section 3.

    Its gradient is large where D is certain that an image is generated.

    Args:
        label_smoothing: The target of real images is 1 minus this number (one-sided label smoothing, Salimans et al.
            2016, arXiv 1606.03498).
    """

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return F.softplus(-fake).mean()


class LeastSquares(Objective):
    """D minimises ((D(x) - 1)^2 + D(G(z))^2) / 2, G (D(G(z)) - 1)^2 / 2: Mao et al. 2016, arXiv 1611.04076, eq. 9."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * ((real - 1).square().mean() + fake.square().mean())

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return 0.5 * (fake - 1).square().mean()


class Wasserstein(Objective):
    """D minimises D(G(z)) - D(x), G -D(G(z)): Arjovsky et al. 2017, arXiv 1701.07875.

    A gradient penalty keeps the norm of D's gradient near one (Gulrajani et al. 2017, arXiv 1704.00028, eq. 3). It
    needs a discriminator without batch norm; the paper takes n_critic = 5.

    Args:
        gradient_penalty: Weight of the gradient penalty.

    Raises:
        ValueError: `gradient_penalty` is negative.
    """

    def __init__(self, gradient_penalty: float = 10.0) -> None:
        if not gradient_penalty >= 0:
            raise ValueError(f"gradient_penalty is {gradient_penalty}; it must be at least 0")
        self.gradient_penalty = gradient_penalty

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class Hinge(Objective):
    """D minimises max(0, 1 - D(x)) + max(0, 1 + D(G(z))), G -D(G(z)): Lim and Ye 2017, arXiv 1705.02894."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class Relativistic(Objective):
    """D minimises -log s(D(x) - D(G(z))), G -log s(D(G(z)) - D(x)), with s the sigmoid, in pairs of images.

    Jolicoeur-Martineau 2018, arXiv 1807.00734, eq. 3 and 4. D tells only which image of a pair is the real one, so that
    a generator that leaves out some kinds of images has a loss there too. Huang et al. 2025, arXiv 2501.05441, add the
    gradient penalties `r1` and `r2` of the recipe, with which training converges locally.
    """

    needs_real = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        if real is None:
            raise ValueError("Relativistic needs the discriminator's outputs on real images too")
        return F.softplus(real - fake).mean()
