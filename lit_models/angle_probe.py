from typing import ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torchmetrics import CatMetric

from lit_models.common.module import ImageShape
from lit_models.common.pretrained_encoder import PretrainedEncoderBase
from lit_models.losses.circular import angle_error, circular_loss, points_to_angles
from lit_models.networks.mlp import mlp


class AngleProbe(PretrainedEncoderBase):
    """Predicts the angle by which an image was rotated from the codes of a trained encoder, frozen or fine-tuned.

    (x, y) = W3 relu(W2 relu(W1 f(image))), of widths d -> mlp_width -> 100 -> 2, and the angle is a = atan2(y, x).
    Minimises the mean of 1 - cos(a - b) over images rotated by b. The network has two outputs because one continuous
    output could not jump from 359 degrees to 0.

    Args:
        encoder_checkpoint: Checkpoint of any model that encodes images. `{seed}` in the path stands for the run's seed
            and `{latent_dim}` for the argument of that name.
        latent_dim: Width of the encoder's code. If it is given, the checkpoint must have it.
        mlp_width: Width of the first hidden layer.
        freeze_encoder: Trains the MLP only. The encoder stays in evaluation mode, with fixed batch-norm statistics.
        encoder_lr_factor: Learning rate of a fine-tuned encoder, relative to that of the MLP.
        image_shape: Channels, height, width of the images; train.py takes them from the data. Labels must be N x 2,
            class and rotation in whole degrees.
        encoder_config: Hyper-parameters of the encoder's model, as JSON. A checkpoint of this model holds them, so that
            the encoder's checkpoint is not needed again; they are not meant to be set by hand.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: `mlp_width` or `encoder_lr_factor` is not positive; from `loss_terms`, the labels hold no angle.
        CheckpointError: the encoder's checkpoint is missing, damaged, or does not fit.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from lit_models import Autoencoder
        >>> encoder = Autoencoder(latent_dim=4)
        >>> checkpoint = {"state_dict": encoder.state_dict(), "hyper_parameters": encoder.model_config()}
        >>> with TemporaryDirectory() as folder:
        ...     torch.save(checkpoint, f"{folder}/encoder.ckpt")
        ...     model = AngleProbe(f"{folder}/encoder.ckpt")
        >>> model(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2])
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
        width = self.setup_encoder(
            encoder_checkpoint, latent_dim, image_shape, freeze_encoder, encoder_lr_factor, encoder_config
        )
        self.head = mlp([width, mlp_width, 100, 2])
        self.test_errors = CatMetric(nan_strategy="disable")

    def forward(self, images: Tensor) -> Tensor:
        """Images, N x C x H x W, or codes, N x d -> angles in radians, N."""
        return points_to_angles(self.head(self.codes(images)))

    def angles(self, images: Tensor) -> Tensor:
        """Counter-clockwise rotations of images in degrees, in [0, 360]: N x C x H x W -> N."""
        return self(images).rad2deg() % 360

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images, labels = batch
        if labels.ndim != 2:
            raise ValueError("AngleProbe needs labels of class and angle, N x 2, as those of RotatedMNISTDataModule")
        angles, targets = self(images), labels[:, 1]
        return {
            "loss": circular_loss(angles, targets.deg2rad()).mean(),
            "angle_error": angle_error(angles.rad2deg(), targets).mean(),
        }

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        super().test_step(batch, batch_idx)
        self.test_errors.update(angle_error(self.angles(batch[0]), batch[1][:, 1]))

    def on_test_epoch_end(self) -> None:
        self.log("test/median_angle_error", self.test_errors.compute().quantile(0.5), sync_dist=True)
        self.test_errors.reset()

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"degrees": self.angles(batch[0]), "labels": batch[1]}
