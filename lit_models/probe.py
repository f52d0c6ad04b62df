import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_models.common.capabilities import check_num_classes
from lit_models.common.module import ImageShape
from lit_models.common.pretrained_encoder import PretrainedEncoderBase
from lit_models.losses.classification import classification_terms
from lit_models.networks.mlp import mlp


class Probe(PretrainedEncoderBase):
    """Probe: an MLP classifier on the codes of a trained encoder, frozen or fine-tuned, to learn from few labels.

    Logits = W3 relu(W2 relu(W1 f(x))), of widths d -> mlp_width -> 100 -> num_classes, trained by cross-entropy. Alain
    and Bengio 2016, arXiv 1610.01644, use linear probes of fixed features; hidden layers and fine-tuning make this a
    few-shot transfer. No labels other than those of the training images choose anything: the number of steps is fixed,
    and the last weights are the result.

    Args:
        encoder_checkpoint: Checkpoint of any model that encodes images. `{seed}` in the path stands for the run's seed
            and `{latent_dim}` for the argument of that name, so that one sweep can cover many encoders.
        latent_dim: Width of the encoder's code. If it is given, the checkpoint must have it.
        mlp_width: Width of the first hidden layer.
        freeze_encoder: Trains the MLP only. The encoder stays in evaluation mode, with fixed batch-norm statistics.
        encoder_lr_factor: Learning rate of a fine-tuned encoder, relative to that of the MLP.
        num_classes: Number of classes; train.py takes it from the data.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        encoder_config: Hyper-parameters of the encoder's model, as JSON. A checkpoint of this model holds them, so that
            the encoder's checkpoint is not needed again; they are not meant to be set by hand.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: `mlp_width` or `encoder_lr_factor` is not positive, or there are fewer than two classes.
        CheckpointError: the encoder's checkpoint is missing, damaged, or does not fit.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from lit_models import Autoencoder
        >>> encoder = Autoencoder(latent_dim=4)
        >>> checkpoint = {"state_dict": encoder.state_dict(), "hyper_parameters": encoder.model_config()}
        >>> with TemporaryDirectory() as folder:
        ...     torch.save(checkpoint, f"{folder}/encoder.ckpt")
        ...     model = Probe(f"{folder}/encoder.ckpt")
        >>> model(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
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
        check_num_classes(num_classes)
        if mlp_width < 1:
            raise ValueError(f"mlp_width is {mlp_width}; it must be at least 1")
        self.save_hyperparameters()
        width = self.setup_encoder(
            encoder_checkpoint, latent_dim, image_shape, freeze_encoder, encoder_lr_factor, encoder_config
        )
        self.classifier = mlp([width, mlp_width, 100, num_classes])

    def forward(self, images: Tensor) -> Tensor:
        """Images, N x C x H x W, or codes, N x d -> logits, N x num_classes."""
        return self.classifier(self.codes(images))

    @property
    def learns_labels(self) -> bool:
        return True

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return classification_terms(self(batch[0]), batch[1])

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"probabilities": self(batch[0]).softmax(dim=1), "labels": batch[1]}
