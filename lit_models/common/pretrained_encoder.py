"""Base class of models that build on the trained encoder of another model's checkpoint."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from lit_models.common.capabilities import Encodes, HasBackbone
from lit_models.common.checkpoints import CheckpointError, article
from lit_models.common.module import GenerativeModule, ImageShape

NO_CHECKPOINT = "none"
"""Value of an option that names a checkpoint for none, for sweeps, which cannot send null."""


class PretrainedEncoder(NamedTuple):
    """A trained encoder."""

    network: nn.Module
    """Images, N x C x H x W -> codes, N x width."""
    width: int
    config: dict[str, Any]
    """What `GenerativeModule.from_config` needs to build the encoder's model again."""


def load_encoder(
    checkpoint: str, latent_dim: int | None, image_shape: ImageShape, config: str | None = None
) -> PretrainedEncoder:
    """Loads the encoder of a model that encodes, or the feature network of one that has a backbone, for evaluation.

    Args:
        checkpoint: Path of the checkpoint, in which `{seed}` stands for the run's seed and `{latent_dim}` for
            `latent_dim`.
        latent_dim: Width that the codes must have; None for any.
        image_shape: Shape of the images that the encoder must take.
        config: Hyper-parameters of the encoder's model, as JSON. If given, an untrained model is built from them, and
            the checkpoint is not read.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, has no encoder, or does not fit.
    """
    path, model = load_pretrained(checkpoint, latent_dim, config)
    if not isinstance(model, Encodes | HasBackbone):
        raise CheckpointError(
            f"{path} holds {article(type(model).__name__)}, which has no encoder; give another checkpoint"
        )
    network = (model.encoder_network() if isinstance(model, Encodes) else model.backbone()).eval()
    width = _code_width(network, image_shape, path)
    if latent_dim not in (None, width):
        raise CheckpointError(f"{path} has codes of width {width}, but model.latent_dim is {latent_dim}")
    return PretrainedEncoder(network, width, model.model_config())


class PretrainedEncoderBase(GenerativeModule):
    """Base of models on a trained `encoder`.

    A frozen encoder stays in evaluation mode, with fixed batch-norm statistics, and encodes each training image only
    once. A fine-tuned encoder has a learning rate of its own. A checkpoint of the model holds the encoder too, so that
    loading it does not need the encoder's checkpoint.
    """

    embedded_configs = ("encoder_config",)
    encoder: nn.Module

    def setup_encoder(
        self,
        checkpoint: str,
        latent_dim: int | None,
        image_shape: ImageShape,
        freeze: bool,
        lr_factor: float,
        config: str | None,
    ) -> int:
        """Loads `encoder` and returns the width of its codes; a constructor calls it after `save_hyperparameters`.

        Args:
            checkpoint: Path of the encoder's checkpoint, as in `load_encoder`.
            latent_dim: Width that the codes must have; None for any.
            image_shape: Shape of the images.
            freeze: Does not train the encoder.
            lr_factor: Learning rate of a trained encoder, relative to that of the other parameters.
            config: Hyper-parameters of the encoder's model, as JSON, instead of the checkpoint.

        Raises:
            ValueError: `lr_factor` is not positive.
            CheckpointError: the checkpoint is missing or damaged, has no encoder, or does not fit.
        """
        if lr_factor <= 0:
            raise ValueError(f"encoder_lr_factor is {lr_factor}; it must be positive")
        self.encoder, width, self.encoder_config = load_encoder(checkpoint, latent_dim, image_shape, config)
        self.freeze_encoder = freeze
        self.encoder_lr_factor = lr_factor
        self.encoder.requires_grad_(not freeze)
        self.train()
        return width

    def configure_optimizers(self) -> Any:
        own = [parameter for name, parameter in self.named_parameters() if not name.startswith("encoder.")]
        if self.freeze_encoder:
            return self.make_optimizer(own)
        optimizer = self.make_optimizer([{"params": own}, {"params": list(self.encoder.parameters())}])
        optimizer.param_groups[1]["lr"] *= self.encoder_lr_factor
        return optimizer

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def encode(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x d."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            return self.encoder(images.to(self.dtype))

    def encoder_network(self) -> nn.Module:
        return self.encoder

    def codes(self, images: Tensor) -> Tensor:
        """Encodes images, N x C x H x W, and returns codes, N x d, unchanged: N x d."""
        return images if images.ndim == 2 else self.encode(images)

    def on_train_start(self) -> None:
        """Replaces training images by their codes if the encoder is frozen and images do not change between epochs."""
        loader: Any = self.trainer.train_dataloader
        if self.freeze_encoder and getattr(loader, "is_deterministic", False):
            loader.precompute_codes(self.encode)

    def derived_config(self) -> dict[str, Any]:
        """Numeric hyper-parameters of the encoder, such as encoder.depth, by which runs can be grouped."""
        return numbers_of("encoder", self.encoder_config)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]["encoder_config"] = json.dumps(self.encoder_config)


def load_pretrained(checkpoint: str, latent_dim: int | None, config: str | None) -> tuple[Path, GenerativeModule]:
    """The path of a checkpoint and the model in it, or an untrained one if `config` is given; as in `load_encoder`.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """
    path = resolve_checkpoint_path(checkpoint, latent_dim)
    return path, GenerativeModule.from_config(json.loads(config)) if config else GenerativeModule.load(path)


def numbers_of(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Numeric hyper-parameters of a model, as `<name>.<hyper-parameter>`."""
    return {f"{name}.{k}": v for k, v in config.items() if isinstance(v, int | float)}


def refuse_image_shape(path: Path, part: str, image_shape: ImageShape) -> CheckpointError:
    """The error of a checkpoint whose encoder or autoencoder takes images of another shape."""
    shape = " x ".join(map(str, image_shape))
    return CheckpointError(f"{path} has {part} that cannot take images of {shape}, those of the data")


def resolve_checkpoint_path(path: str, latent_dim: int | None) -> Path:
    """Replaces `{seed}` in a path by the run's seed and `{latent_dim}` by `latent_dim`.

    Raises:
        CheckpointError: the path contains `{latent_dim}`, and `latent_dim` is None.
    """
    if "{latent_dim}" in path and latent_dim is None:
        raise CheckpointError(f"{path} contains {{latent_dim}}; give --model.latent_dim")
    seed = os.environ.get("PL_GLOBAL_SEED", "0")
    return Path(path.replace("{latent_dim}", str(latent_dim)).replace("{seed}", seed)).expanduser()


@torch.no_grad()
def _code_width(encoder: nn.Module, image_shape: ImageShape, path: Path) -> int:
    """Width of the codes of an encoder."""
    try:
        return encoder(torch.zeros(1, *image_shape)).shape[1]
    except RuntimeError:
        raise refuse_image_shape(path, "an encoder", image_shape) from None
