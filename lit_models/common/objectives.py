"""What a discriminator and a generator minimise."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_models.common.component import Component


class Objective(Component, ABC):
    """Losses from the discriminator's outputs, which are logits or real numbers of any size, N."""

    gradient_penalty: float = 0.0
    """Weight of `gradient_penalty` in the discriminator's loss."""
    score_is_probability: bool = False

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's loss by its outputs on real and on generated images, a mean."""

    @abstractmethod
    def generator(self, fake: Tensor) -> Tensor:
        """The generator's loss by the discriminator's outputs on its images, a mean."""

    def score(self, logits: Tensor) -> Tensor:
        """How real the discriminator finds images: a probability where there is one, else its output."""
        return logits


class CrossEntropy(Objective):
    """D is the probability that an image is real: D minimises -log D(x) - log(1 - D(G(z))).

    Args:
        label_smoothing: D is asked to give real images 1 minus this (one-sided, Salimans et al. 2016, 1606.03498).

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
    """G minimises log(1 - D(G(z))): Goodfellow et al. 2014, arXiv 1406.2661, eq. 1. Flat where D is sure."""

    def generator(self, fake: Tensor) -> Tensor:
        return -F.softplus(fake).mean()


class NonSaturating(CrossEntropy):
    """G minimises -log D(G(z)): Goodfellow et al. 2014, arXiv 1406.2661, section 3. Steep where D is sure."""

    def generator(self, fake: Tensor) -> Tensor:
        return F.softplus(-fake).mean()


class LeastSquares(Objective):
    """D minimises ((D(x) - 1)^2 + D(G(z))^2) / 2, G (D(G(z)) - 1)^2 / 2: Mao et al. 2016, arXiv 1611.04076, eq. 9."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * ((real - 1).square().mean() + fake.square().mean())

    def generator(self, fake: Tensor) -> Tensor:
        return 0.5 * (fake - 1).square().mean()


class Wasserstein(Objective):
    """D minimises D(G(z)) - D(x), G -D(G(z)): Arjovsky et al. 2017, arXiv 1701.07875.

    D is held to slopes of one by a penalty (Gulrajani et al. 2017, arXiv 1704.00028, eq. 3); it goes with a
    discriminator without batch norm, and with `n_critic` of about 5.

    Args:
        gradient_penalty: its weight.
    """

    def __init__(self, gradient_penalty: float = 10.0) -> None:
        if not gradient_penalty >= 0:
            raise ValueError(f"gradient_penalty is {gradient_penalty}; it may not be negative")
        self.gradient_penalty = gradient_penalty

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()


class Hinge(Objective):
    """D minimises max(0, 1 - D(x)) + max(0, 1 + D(G(z))), G -D(G(z)): Lim and Ye 2017, arXiv 1705.02894."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """E[(|grad D(x^)| - 1)^2] at x^ = a x + (1 - a) G(z), one uniform a an image (Gulrajani et al. 2017, 1704.00028).

    The norm is over all of an image's pixels, of D's raw output, which is the mean where D has one for each patch. In
    single precision under autocast: gradients of gradients do not fit into half.

    Args:
        critic: images, N x C x H x W, to outputs, N or N x h x w, each by its own image alone.
        real, fake: N x C x H x W.
    """
    dtype = torch.float32 if torch.is_autocast_enabled(real.device.type) else real.dtype
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device, dtype=dtype)
    between = torch.lerp(fake.detach().to(dtype), real.to(dtype), share).requires_grad_()
    with torch.autocast(real.device.type, enabled=False), torch.enable_grad():
        outputs = critic(between)
        whole = outputs.reshape(len(outputs), -1).mean(dim=1)
        [gradient] = torch.autograd.grad(whole.sum(), between, create_graph=True)
    norm = gradient.flatten(1).float().square().sum(dim=1).add(1e-12).sqrt()  # the root has no slope at zero
    return (norm - 1).square().mean()
