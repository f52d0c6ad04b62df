"""Base class of models that generate images from noise, one noise level after another."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.capabilities import refuse_label
from lit_models.common.diffusion import Diffusion
from lit_models.common.ema import check_ema_precision, ema_copy, update_ema
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.noise_predictors import NoisePredictor
from lit_models.common.samplers import Sampler


class DiffusionBase(GenerativeModule):
    """Base of models with a network that predicts the noise in noisy images, and a sampler that uses it.

    If `ema_decay` is positive, the exponential moving average (EMA) of the network's weights is validated, tested and
    sampled. The network may run in half precision. The arithmetic around it stays in single precision, because the
    lowest noise levels change an image by less than half precision resolves.
    """

    diffusion: Diffusion
    network: nn.Module
    ema_network: nn.Module | None
    sampler: Sampler
    image_shape: ImageShape
    num_classes: int | None
    guidance_scale: float = 0.0

    def setup_networks(
        self,
        diffusion: Diffusion,
        network: NoisePredictor,
        sampler: Sampler,
        ema_decay: float,
        image_shape: ImageShape,
        num_classes: int | None = None,
    ) -> None:
        """Builds the networks; a constructor calls it after `save_hyperparameters`.

        Args:
            diffusion: Noising process.
            network: Builds the network.
            sampler: Sampler that `sample` uses.
            ema_decay: Decay of the EMA of the weights; 0 for no EMA.
            image_shape: Channels, height, width.
            num_classes: Number of classes of a model that learns from labels, else None.

        Raises:
            ValueError: the arguments are out of range or do not fit together.
        """
        if not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay is {ema_decay}; it must be in [0, 1)")
        sampler.check(diffusion)
        self.diffusion = diffusion
        self.sampler = sampler
        self.ema_decay = ema_decay
        self.image_shape = image_shape
        self.num_classes = num_classes
        self.network = network.build(image_shape, num_classes)
        self.ema_network = ema_copy(self.network) if ema_decay else None

    @property
    def evaluated_network(self) -> nn.Module:
        """The network that is validated, tested and sampled: `ema_network` if there is one, else `network`."""
        return self.network if self.ema_network is None else self.ema_network

    def apply_network(self, network: nn.Module, noisy: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predicts the noise in x_t, N x C x H x W, at timesteps t, N, with a network: N x C x H x W, float32."""
        return network(self.diffusion.scale_input(noisy, t), t / self.diffusion.num_steps, labels).float()

    def predict_noise(self, noisy: Tensor, t: int, labels: Tensor | None = None) -> Tensor:
        """Predicts the noise in x_t, N x C x H x W, at one timestep, with classifier-free guidance towards the labels.

        Ho and Salimans 2022, arXiv 2207.12598, eq. 6: (1 + w) e(x, y) - w e(x), w = `guidance_scale`.
        """
        timesteps = torch.full((len(noisy),), t, device=noisy.device)
        with self.training_precision():
            if labels is None or self.num_classes is None or not self.guidance_scale:
                return self.apply_network(self.evaluated_network, noisy, timesteps, labels)
            any_class = torch.full_like(labels, self.num_classes)
            both = torch.cat([labels, any_class])
            noise = self.apply_network(self.evaluated_network, noisy.repeat(2, 1, 1, 1), timesteps.repeat(2), both)
        conditional, unconditional = noise.chunk(2)
        return unconditional + (1 + self.guidance_scale) * (conditional - unconditional)

    def training_precision(self) -> AbstractContextManager[Any]:
        """Context with the trainer's precision, if there is a trainer."""
        return nullcontext() if self._trainer is None else self.trainer.precision_plugin.forward_context()

    @torch.no_grad()
    def sample(self, n: int, label: int | None = None) -> Tensor:
        """Generates n images with `sampler`, of class `label`, or of random classes if the model has classes."""
        noise = self.diffusion.sample_noise(n, self.image_shape)
        return self.sample_with(self.sampler, noise, self.sample_labels(n, label))

    def sample_labels(self, n: int, label: int | None) -> Tensor | None:
        """Labels of n images: all `label`, or random ones; None for a model without classes.

        Raises:
            ValueError: the model has no such class.
        """
        if self.num_classes is None:
            refuse_label(self, label)
            return None
        if label is None:
            return torch.randint(self.num_classes, (n,), device=self.device)
        if not 0 <= label < self.num_classes:
            raise ValueError(f"there is no class {label}; the classes are 0 to {self.num_classes - 1}")
        return torch.full((n,), label, device=self.device)

    @torch.no_grad()
    def sample_with(self, sampler: Sampler, noisy: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generates images in [0, 1] from x_T with a sampler: N x C x H x W -> N x C x H x W."""
        clean = sampler.sample(self.diffusion, lambda x, t: self.predict_noise(x, t, labels), noisy)
        return to_unit(clean).clamp(0, 1)

    def draw_timesteps(self, n: int, first: int = 1) -> Tensor:
        """Draws n timesteps from `first` to T, int64, each uniform and together evenly spread.

        Kingma et al. 2021, arXiv 2107.00630, appendix I.1.
        """
        position = torch.rand((), device=self.device) + torch.arange(n, device=self.device) / n
        count = self.diffusion.num_steps - first + 1
        return first + (position.frac() * count).long().clamp(max=count - 1)[torch.randperm(n, device=self.device)]

    # Training.

    def check_trainer(self, trainer: Trainer) -> None:
        super().check_trainer(trainer)
        if self.ema_network is not None:
            check_ema_precision(trainer)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.ema_network is not None:
            update_ema(self.ema_network, self.network, self.ema_decay, self.trainer.global_step + 1)


def to_signed(images: Tensor) -> Tensor:
    """Maps pixels from [0, 1] to [-1, 1], float32."""
    return 2 * images.float() - 1


def to_unit(images: Tensor) -> Tensor:
    """Maps pixels from [-1, 1] to [0, 1]."""
    return (images + 1) / 2


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each image, N."""
    return F.mse_loss(prediction, target, reduction="none").flatten(1).mean(dim=1)
