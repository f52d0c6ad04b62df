import json
import os
from pathlib import Path
from typing import Any, Self

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_models.base import CheckpointError, Encodes, GenerativeModule, ImageShape, build
from lit_models.losses.classification import classification_terms
from lit_models.networks.mlp import mlp


class Probe(GenerativeModule):
    """An MLP on the codes of a trained encoder, for learning from a few labels; frozen or fine-tuned.

    Logits = W3 relu(W2 relu(W1 f(x))), widths d -> mlp_width -> 100 -> num_classes, by cross-entropy. Whether f's
    codes are linearly readable is the question of Alain and Bengio 2016, arXiv 1610.01644; with a hidden layer and
    fine-tuning it is the few-shot transfer of the autoencoder study. Nothing is chosen by labels other than those
    trained on: the number of steps is fixed beforehand and the last weights are the result.

    Args:
        encoder_checkpoint: a checkpoint of any model that encodes. `{seed}` in it stands for the run's seed and
            `{latent_dim}` for the argument of that name, so that one sweep covers many encoders.
        latent_dim: width of the encoder's code; checked against the checkpoint.
        mlp_width: width w of the first hidden layer.
        freeze_encoder: train the MLP alone; the encoder stays in evaluation mode, its batch-norm statistics too.
        encoder_lr_factor: learning rate of a fine-tuned encoder as a share of the MLP's.
        num_classes, image_shape: given by the data when run through train.py.
        encoder_config: as JSON, rebuilds the encoder without its checkpoint; a probe's own checkpoint brings it.
        optimizer: makes the optimizer from the parameters.

    Raises:
        CheckpointError: the encoder's checkpoint is missing, damaged, or does not fit.
    """

    def __init__(
        self,
        encoder_checkpoint: str,
        latent_dim: int | None = None,
        mlp_width: int = 200,
        freeze_encoder: bool = True,
        encoder_lr_factor: float = 1.0,
        num_classes: int = 10,
        image_shape: ImageShape = (1, 28, 28),
        encoder_config: str | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if mlp_width < 1 or encoder_lr_factor <= 0:
            raise ValueError(
                f"mlp_width is {mlp_width} and encoder_lr_factor {encoder_lr_factor}; both must be positive"
            )
        self.save_hyperparameters()
        source = _fill(encoder_checkpoint, latent_dim)
        backbone = build(json.loads(encoder_config)) if encoder_config else GenerativeModule.load(source)
        if not isinstance(backbone, Encodes):
            raise CheckpointError(f"{source} holds a {type(backbone).__name__}, which has no encoder")
        self.encoder_config = backbone.rebuilding_config()
        self.encoder = backbone.code_network()
        width = _code_width(self.encoder, image_shape, source)
        if latent_dim not in (None, width):
            raise CheckpointError(f"{source} has codes of width {width}, but model.latent_dim is {latent_dim}")
        self.classifier = mlp([width, mlp_width, 100, num_classes])
        self.freeze_encoder = freeze_encoder
        self.encoder_lr_factor = encoder_lr_factor
        self.encoder.requires_grad_(not freeze_encoder)
        self.train()

    def configure_optimizers(self) -> Any:
        if self.freeze_encoder:
            return super().configure_optimizers()
        groups = [{"params": list(part.parameters())} for part in (self.classifier, self.encoder)]
        optimizer = self.make_optimizer(groups)
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

    def code_network(self) -> nn.Module:
        return self.encoder

    def on_train_start(self) -> None:
        """Encodes each training image once, as a frozen encoder gives it the same code every time."""
        loader = self.trainer.train_dataloader
        if self.freeze_encoder and loader is not None and getattr(loader, "transform", True) is None:
            loader.encode_once(self.encode)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x num_classes, of images or of their codes, N x d."""
        return self.classifier(images if images.ndim == 2 else self.encode(images))

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return classification_terms(self(batch[0]), batch[1])

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"probabilities": self(batch[0]).softmax(dim=1), "labels": batch[1]}

    def derived_config(self) -> dict[str, Any]:
        """The encoder's own numbers, such as encoder.depth, so that runs can be grouped by them."""
        return {f"encoder.{k}": v for k, v in self.encoder_config.items() if isinstance(v, int | float)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]["encoder_config"] = json.dumps(self.encoder_config)


def _fill(path: str, latent_dim: int | None) -> Path:
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
