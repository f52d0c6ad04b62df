"""Base class of models that generate images from noise, one noise level after another."""

import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.common.capabilities import check_num_classes, class_labels
from lit_models.common.ema import check_ema_precision, ema_copy, update_ema
from lit_models.common.latent_space import DataSpace, LatentSpace, data_space
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.noise_predictors import NoisePredictor
from lit_models.common.noise_process import Denoised, Level, NoiseProcess
from lit_models.common.predictions import Prediction, denoised
from lit_models.common.pretrained_encoder import numbers_of
from lit_models.common.samplers import Sampler
from lit_models.losses.classification import class_of


class DiffusionBase(GenerativeModule):
    """Base of models with a network that predicts what is in noisy images, and a sampler that uses it.

    With an `autoencoder` these images are its codes (`LatentSpace`). Networks, noise and samplers then have the shape
    of a code. What others see, such as `sample`, are images.

    If `ema_decay` is positive, the exponential moving average (EMA) of the network's weights is validated, tested and
    sampled. The network may run in half precision. The arithmetic around it stays in single precision, because the
    lowest noise levels change an image by less than half precision resolves.
    """

    embedded_configs = ("autoencoder_config",)
    process: NoiseProcess
    space: DataSpace
    """The space of x_0, images with pixels in [-1, 1] or codes; x_0 and x_t are N x C x H x W of `space.shape`."""
    network: nn.Module
    ema_network: nn.Module | None
    sampler: Sampler
    image_shape: ImageShape
    prediction: Prediction = "noise"
    num_classes: int | None = None
    label_dropout: float = 0.0
    guidance_scale: float = 0.0

    def setup_classes(self, conditional: bool, num_classes: int, label_dropout: float, guidance_scale: float) -> None:
        """Sets whether the model learns from labels; a constructor calls it before `setup_networks`.

        Args:
            conditional: Learns from labels, and generates images of a class.
            num_classes: Number of classes.
            label_dropout: Fraction of the labels that training replaces by "any class".
            guidance_scale: Strength of classifier-free guidance.

        Raises:
            ValueError: a number is out of range, or the numbers do not fit together.
        """
        if not 0 <= label_dropout < 1 or not guidance_scale >= 0:
            raise ValueError(
                f"label_dropout is {label_dropout} and guidance_scale {guidance_scale}; they must be in [0, 1) and at"
                " least 0"
            )
        if guidance_scale and not (conditional and label_dropout):
            raise ValueError("guidance_scale needs a conditional model, and label_dropout above 0")
        if conditional:
            check_num_classes(num_classes)
        self.num_classes = num_classes if conditional else None
        self.label_dropout = label_dropout
        self.guidance_scale = guidance_scale

    def setup_networks(
        self,
        process: NoiseProcess,
        network: NoisePredictor,
        sampler: Sampler,
        ema_decay: float,
        image_shape: ImageShape,
        autoencoder: str | None = None,
        autoencoder_config: str | None = None,
    ) -> None:
        """Builds the networks; a constructor calls it after `save_hyperparameters`.

        Args:
            process: Noising process.
            network: Builds the network.
            sampler: Sampler that `sample` uses.
            ema_decay: Decay of the EMA of the weights; 0 for no EMA.
            image_shape: Channels, height, width.
            autoencoder: Checkpoint of the autoencoder of a latent model; None or "none" for a model of pixels.
            autoencoder_config: Hyper-parameters of the autoencoder, as JSON, instead of the checkpoint.

        Raises:
            ValueError: the arguments are out of range or do not fit together.
            CheckpointError: the autoencoder cannot be used.
        """
        if not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay is {ema_decay}; it must be in [0, 1)")
        sampler.check(process)
        self.process = process
        self.sampler = sampler
        self.ema_decay = ema_decay
        self.image_shape = image_shape
        self.space = data_space(image_shape, autoencoder, autoencoder_config, process.data_std or 1.0)
        self.network = network.build(self.space.shape, self.num_classes)
        self.ema_network = ema_copy(self.network) if ema_decay else None

    def require_pixels(self, what: str) -> None:
        """Refuses what has a meaning for pixels alone.

        Raises:
            ValueError: the model is one of codes.
        """
        if isinstance(self.space, LatentSpace):
            raise ValueError(f"{what} needs a model of pixels, and this one learns codes; use --model.autoencoder none")

    @property
    def evaluated_network(self) -> nn.Module:
        """The network that is validated, tested and sampled: `ema_network` if there is one, else `network`."""
        return self.network if self.ema_network is None else self.ema_network

    def apply_network(self, network: nn.Module, noisy: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """A network's prediction for x_t, N x C x H x W, at times t, N: N x C x H x W, float32."""
        return network(self.process.scale_input(noisy, t), self.process.condition(t), labels).float()

    def predict(self, noisy: Tensor, level: Level[float], labels: Tensor | None = None) -> Tensor:
        """The network's prediction for x_t, N x C x H x W, with classifier-free guidance towards the labels.

        Ho and Salimans 2022, arXiv 2207.12598, eq. 6: (1 + w) F(x, y) - w F(x), w = `guidance_scale`.
        """
        t = self.process.batch_time(level, len(noisy))
        with self.training_precision():
            if labels is None or self.num_classes is None or not self.guidance_scale:
                return self.apply_network(self.evaluated_network, noisy, t, labels)
            any_class = torch.full_like(labels, self.num_classes)
            both = torch.cat([labels, any_class])
            found = self.apply_network(self.evaluated_network, noisy.repeat(2, 1, 1, 1), t.repeat(2), both)
        conditional, unconditional = found.chunk(2)
        return unconditional + (1 + self.guidance_scale) * (conditional - unconditional)

    def denoise(self, noisy: Tensor, level: Level[float], labels: Tensor | None = None) -> Denoised:
        """Image and noise in x_t, N x C x H x W, at one noise level, as `predict` finds them."""
        prediction = self.predict(noisy, level, labels)
        return denoised(self.prediction, prediction, noisy, level, self.process.data_std or 1.0)

    def training_precision(self) -> AbstractContextManager[Any]:
        """Context with the trainer's precision, if there is a trainer."""
        return nullcontext() if self._trainer is None else self.trainer.precision_plugin.forward_context()

    @torch.no_grad()
    def sample(self, n: int, label: int | None = None) -> Tensor:
        """Generates n images with `sampler`, of class `label`, or of random classes if the model has classes."""
        noise = self.process.sample_noise(n, self.space.shape)
        return self.sample_with(self.sampler, noise, self.sample_labels(n, label))

    def sample_labels(self, n: int, label: int | None) -> Tensor | None:
        """Labels of n images: all `label`, or random ones; None for a model without classes.

        Raises:
            ValueError: the model has no such class.
        """
        return class_labels(self, n, label)

    @torch.no_grad()
    def sample_with(self, sampler: Sampler, noisy: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generates images in [0, 1] from x_t at the highest noise level: N x `space.shape` -> N x C x H x W."""
        return self.space.decode(self.sample_clean(sampler, noisy, labels))

    @torch.no_grad()
    def sample_clean(self, sampler: Sampler, noisy: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generates x_0 from x_t at the highest noise level, N x `space.shape` each. Codes are never clipped."""
        if isinstance(self.space, LatentSpace):
            sampler = sampler.without_clip()
        return sampler.sample(self.process, lambda x, level: self.denoise(x, level, labels), noisy)

    # Training.

    def on_train_start(self) -> None:
        if isinstance(self.space, LatentSpace):
            self.space.start(self.trainer.train_dataloader, self.trainer.world_size)

    def training_labels(self, batch: tuple[Tensor, Tensor]) -> Tensor | None:
        """Labels of a batch, int64, N; in training, a fraction of them is replaced by "any class"."""
        if self.num_classes is None:
            return None
        labels = class_of(batch[1])
        if not self.training:
            return labels
        dropped = torch.rand(len(labels), device=labels.device) < self.label_dropout
        return labels.masked_fill(dropped, self.num_classes)

    def check_trainer(self, trainer: Trainer) -> None:
        super().check_trainer(trainer)
        if self.ema_network is not None:
            check_ema_precision(trainer)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.ema_network is not None:
            update_ema(self.ema_network, self.network, self.ema_decay, self.trainer.global_step + 1)

    def derived_config(self) -> dict[str, Any]:
        """Numeric hyper-parameters of the autoencoder, such as autoencoder.latent_dim, by which runs can be grouped."""
        return numbers_of("autoencoder", self.space.config) if isinstance(self.space, LatentSpace) else {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if isinstance(self.space, LatentSpace):
            checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]["autoencoder_config"] = json.dumps(self.space.config)


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each image, N."""
    return F.mse_loss(prediction, target, reduction="none").flatten(1).mean(dim=1)
