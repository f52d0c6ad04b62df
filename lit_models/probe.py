import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.module import ImageShape
from lit_models.common.pretrained_encoder import PretrainedEncoderBase
from lit_models.losses.classification import classification_terms
from lit_models.networks.mlp import mlp


class Probe(PretrainedEncoderBase):
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
        ValueError: `mlp_width` or `encoder_lr_factor` is not positive.
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
        if mlp_width < 1:
            raise ValueError(f"mlp_width is {mlp_width}; it must be at least 1")
        self.save_hyperparameters()
        width = self.take_encoder(
            encoder_checkpoint, latent_dim, image_shape, freeze_encoder, encoder_lr_factor, encoder_config
        )
        self.classifier = mlp([width, mlp_width, 100, num_classes])

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x num_classes, of images or of their codes, N x d."""
        return self.classifier(self.codes(images))

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return classification_terms(self(batch[0]), batch[1])

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"probabilities": self(batch[0]).softmax(dim=1), "labels": batch[1]}
