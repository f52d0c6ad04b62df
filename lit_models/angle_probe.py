from typing import ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torchmetrics import CatMetric

from lit_models.common.module import ImageShape
from lit_models.common.pretrained_encoder import PretrainedEncoderBase
from lit_models.losses.circular import angle_error, angle_of, circular_loss
from lit_models.networks.mlp import mlp


class AngleProbe(PretrainedEncoderBase):
    """The angle by which an image was turned, read from the codes of a trained encoder; frozen or fine-tuned.

    (x, y) = W3 relu(W2 relu(W1 f(image))), widths d -> mlp_width -> 100 -> 2, the angle a = atan2(y, x), minimising the
    mean of 1 - cos(a - b) over images turned by b. Two outputs in the place of one, as no network can be continuous
    and jump from 359 degrees to 0.

    Args:
        encoder_checkpoint: a checkpoint of any model that encodes. `{seed}` in it stands for the run's seed and
            `{latent_dim}` for the argument of that name.
        latent_dim: width of the encoder's code; checked against the checkpoint.
        mlp_width: width of the first hidden layer.
        freeze_encoder: train the MLP alone; the encoder stays in evaluation mode, its batch-norm statistics too.
        encoder_lr_factor: learning rate of a fine-tuned encoder as a share of the MLP's.
        image_shape: given by the data when run through train.py, whose labels are N x 2: class and whole degrees.
        encoder_config: as JSON, rebuilds the encoder without its checkpoint; a probe's own checkpoint brings it.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: `mlp_width` or `encoder_lr_factor` is not positive; from a step, the labels hold no angle.
        CheckpointError: the encoder's checkpoint is missing, damaged, or does not fit.
    """

    monitor = ("val/angle_error", "min")
    needs_label: ClassVar[str | None] = "angle"

    def __init__(
        self,
        encoder_checkpoint: str,
        latent_dim: int | None = None,
        mlp_width: int = 200,
        freeze_encoder: bool = True,
        encoder_lr_factor: float = 1.0,
        image_shape: ImageShape = (1, 28, 28),
        encoder_config: str | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if mlp_width < 1:
            raise ValueError(f"mlp_width is {mlp_width}; it must be at least 1")
        self.save_hyperparameters()
        width = self.take_encoder(
            encoder_checkpoint, latent_dim, image_shape, freeze_encoder, encoder_lr_factor, encoder_config
        )
        self.head = mlp([width, mlp_width, 100, 2])
        self.test_errors = CatMetric(nan_strategy="disable")

    def forward(self, images: Tensor) -> Tensor:
        """Angles, N, in radians, of images or of their codes, N x d."""
        return angle_of(self.head(self.codes(images)))

    def angles(self, images: Tensor) -> Tensor:
        """Counter-clockwise turns of images, N, in degrees, [0, 360]."""
        return self(images).rad2deg() % 360

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images, labels = batch
        if labels.ndim != 2:
            raise ValueError("AngleProbe needs labels of class and angle, N x 2, such as RotatedMNISTDataModule gives")
        angles, turned = self(images), labels[:, 1]
        return {
            "loss": circular_loss(angles, turned.deg2rad()).mean(),
            "angle_error": angle_error(angles.rad2deg(), turned).mean(),
        }

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        super().test_step(batch, batch_idx)
        self.test_errors.update(angle_error(self.angles(batch[0]), batch[1][:, 1]))

    def on_test_epoch_end(self) -> None:
        self.log("test/median_angle_error", self.test_errors.compute().quantile(0.5), sync_dist=True)
        self.test_errors.reset()

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"degrees": self.angles(batch[0]), "labels": batch[1]}
