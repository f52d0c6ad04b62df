"""What models of images out of noise, level by level, share."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.diffusion import Diffusion
from lit_models.common.ema import check_ema_precision, ema_copy, update_ema
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.samplers import Sampler
from lit_models.networks.unet import NoiseNetwork


class DiffusionBase(GenerativeModule):
    """A network that sees the noise in noisy images of any level, and a sampler that takes images out of noise with it.

    A moving average of the network's weights, if there is one, is what is validated, tested and sampled. What a network
    makes of images may be of half precision; the levels' arithmetic stays in single precision, as the last levels
    differ from the image by less than half precision tells apart.
    """

    diffusion: Diffusion
    network: nn.Module
    average: nn.Module | None
    sampler: Sampler
    image_shape: ImageShape
    num_classes: int | None
    guidance: float = 0.0

    def assemble(
        self,
        diffusion: Diffusion,
        network: NoiseNetwork,
        sampler: Sampler,
        ema_decay: float,
        image_shape: ImageShape,
        num_classes: int | None = None,
    ) -> None:
        """Sets the parts, after `save_hyperparameters`.

        Raises:
            ValueError: they do not go together.
        """
        if not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay is {ema_decay}; it must be at least 0 and below 1")
        sampler.check(diffusion)
        self.diffusion = diffusion
        self.sampler = sampler
        self.ema_decay = ema_decay
        self.image_shape = image_shape
        self.num_classes = num_classes
        self.network = network.network(image_shape, num_classes)
        self.average = ema_copy(self.network) if ema_decay else None

    @property
    def maker(self) -> nn.Module:
        """The network that makes the images that are looked at: the average where there is one."""
        return self.network if self.average is None else self.average

    def noise_in(self, network: nn.Module, noisy: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """The noise that a network sees in x_t, N x C x H x W, for steps t, N: float32."""
        return network(self.diffusion.scale(noisy, t), t / self.diffusion.steps, labels).float()

    def predict_noise(self, noisy: Tensor, t: int, labels: Tensor | None = None) -> Tensor:
        """The same by `maker`, all images at one step, guided towards their labels if there are any.

        Ho and Salimans 2022, arXiv 2207.12598, eq. 6: (1 + w) e(x, y) - w e(x), w = `guidance`.
        """
        steps = torch.full((len(noisy),), t, device=noisy.device)
        with self.as_trained():
            if labels is None or self.num_classes is None or not self.guidance:
                return self.noise_in(self.maker, noisy, steps, labels)
            of_any_class = torch.full_like(labels, self.num_classes)
            twice = torch.cat([labels, of_any_class])
            found = self.noise_in(self.maker, noisy.repeat(2, 1, 1, 1), steps.repeat(2), twice)
        of_class, of_any = found.chunk(2)
        return of_any + (1 + self.guidance) * (of_class - of_any)

    def as_trained(self) -> AbstractContextManager[Any]:
        """The precision of the training, while there is a trainer."""
        return nullcontext() if self._trainer is None else self.trainer.precision_plugin.forward_context()

    @torch.no_grad()
    def sample(self, n: int, label: int | None = None) -> Tensor:
        """Images of one class, or of classes drawn at random if there are any; by the model's `sampler`."""
        return self.sample_by(self.sampler, self.diffusion.start(n, self.image_shape), self.labels(n, label))

    def labels(self, n: int, label: int | None) -> Tensor | None:
        """
        Raises:
            ValueError: there is no such class, or there are none.
        """
        if self.num_classes is None:
            if label is not None:
                raise ValueError(
                    f"{type(self).__name__} was trained without labels and cannot be asked for class {label}"
                )
            return None
        if label is None:
            return torch.randint(self.num_classes, (n,), device=self.device)
        if not 0 <= label < self.num_classes:
            raise ValueError(f"there is no class {label}; they are 0 to {self.num_classes - 1}")
        return torch.full((n,), label, device=self.device)

    @torch.no_grad()
    def sample_by(self, sampler: Sampler, noisy: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images in [0, 1] that a sampler makes of x_T, both N x C x H x W."""
        clean = sampler.sample(self.diffusion, lambda x, t: self.predict_noise(x, t, labels), noisy)
        return to_unit(clean).clamp(0, 1)

    def draw_steps(self, n: int, first: int = 1) -> Tensor:
        """Steps from `first` to T for n images, int64, each uniform, and together spread evenly (Kingma et al. 2021,
        arXiv 2107.00630, appendix I.1)."""
        place = torch.rand((), device=self.device) + torch.arange(n, device=self.device) / n
        count = self.diffusion.steps - first + 1
        return first + (place.frac() * count).long().clamp(max=count - 1)[torch.randperm(n, device=self.device)]

    # Training.

    def on_fit_start(self) -> None:
        if self.average is not None:
            check_ema_precision(self)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            update_ema(self.average, self.network, self.ema_decay, self.trainer.global_step + 1)


def to_signed(images: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1], float32."""
    return 2 * images.float() - 1


def to_unit(images: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return (images + 1) / 2


def squared_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean over pixels of each image: N."""
    return F.mse_loss(found, wanted, reduction="none").flatten(1).mean(dim=1)
