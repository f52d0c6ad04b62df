"""Encoders taken out of trained models' checkpoints, for the models that build on one."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from lit_models.common.capabilities import Encodes, HasBackbone
from lit_models.common.checkpoints import CheckpointError
from lit_models.common.module import GenerativeModule, ImageShape


class Backbone(NamedTuple):
    """A trained encoder: its network, the width of its codes, and what `GenerativeModule.from_config` needs to make its model again."""

    network: nn.Module
    width: int
    config: dict[str, Any]


def load_backbone(
    checkpoint: str, latent_dim: int | None, image_shape: ImageShape, config: str | None = None
) -> Backbone:
    """The encoder of any model that encodes, else the network of one that has features, in evaluation mode.

    Args:
        checkpoint: its path; `{seed}` stands for the run's seed and `{latent_dim}` for the argument.
        latent_dim: the width that its codes must have; None for any.
        image_shape: of the images that it must take.
        config: as JSON, what to build the untrained model of instead of reading the checkpoint.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, has no encoder, or does not fit.
    """
    source = fill_path(checkpoint, latent_dim)
    model = GenerativeModule.from_config(json.loads(config)) if config else GenerativeModule.load(source)
    if not isinstance(model, Encodes | HasBackbone):
        raise CheckpointError(f"{source} holds a {type(model).__name__}, which has no encoder")
    network = (model.encoder_network() if isinstance(model, Encodes) else model.backbone()).eval()
    width = _code_width(network, image_shape, source)
    if latent_dim not in (None, width):
        raise CheckpointError(f"{source} has codes of width {width}, but model.latent_dim is {latent_dim}")
    return Backbone(network, width, model.model_config())


class PretrainedEncoderBase(GenerativeModule):
    """What models on a trained `encoder` share: `class Probe(PretrainedEncoderBase, GenerativeModule)`.

    Frozen, the encoder stays in evaluation mode, its batch-norm statistics too, and sees each training image once;
    fine-tuned, it has a learning rate of its own. It is rebuilt without the checkpoint that it came from.
    """

    encoder: nn.Module

    def take_encoder(
        self,
        checkpoint: str,
        latent_dim: int | None,
        image_shape: ImageShape,
        freeze: bool,
        lr_factor: float,
        config: str | None,
    ) -> int:
        """Sets `encoder`, after `save_hyperparameters`; returns the width of its codes.

        Raises:
            ValueError: `lr_factor` is not positive.
            CheckpointError: as `load_backbone`.
        """
        if lr_factor <= 0:
            raise ValueError(f"encoder_lr_factor is {lr_factor}; it must be positive")
        self.encoder, width, self.encoder_config = load_backbone(checkpoint, latent_dim, image_shape, config)
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
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def encode(self, images: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            return self.encoder(images)  # (N, d)

    def encoder_network(self) -> nn.Module:
        return self.encoder

    def codes(self, images: Tensor) -> Tensor:
        """Codes, N x d, of images, N x C x H x W; codes themselves go through."""
        return images if images.ndim == 2 else self.encode(images)

    def on_train_start(self) -> None:
        """Encodes each training image once, where it is the same every time and so is its code."""
        loader: Any = self.trainer.train_dataloader
        if self.freeze_encoder and getattr(loader, "repeats", False):
            loader.precompute_codes(self.encode)

    def derived_config(self) -> dict[str, Any]:
        """The encoder's own numbers, such as encoder.depth, so that runs can be grouped by them."""
        return {f"encoder.{k}": v for k, v in self.encoder_config.items() if isinstance(v, int | float)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]["encoder_config"] = json.dumps(self.encoder_config)


def fill_path(path: str, latent_dim: int | None) -> Path:
    """A checkpoint's path, with the run's seed for `{seed}` and this number for `{latent_dim}`.

    Raises:
        CheckpointError: there is no number to put in.
    """
    if "{latent_dim}" in path and latent_dim is None:
        raise CheckpointError(f"{path} needs a number for {{latent_dim}}: give --model.latent_dim")
    seed = os.environ.get("PL_GLOBAL_SEED", "0")
    return Path(path.replace("{latent_dim}", str(latent_dim)).replace("{seed}", seed)).expanduser()


@torch.no_grad()
def _code_width(encoder: nn.Module, image_shape: ImageShape, source: Path) -> int:
    try:
        return encoder(torch.zeros(1, *image_shape)).shape[1]
    except RuntimeError:
        shape = " x ".join(map(str, image_shape))
        raise CheckpointError(f"{source} has an encoder of other images than {shape}, those of the data") from None
