import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.common.schedules import Schedule
from lit_models.losses.classification import classification_terms
from lit_models.networks.classifier import BlockKind, ConvFeatures


class Classifier(GenerativeModule):
    """Convolutional classifier by cross-entropy; its features measure the images that other models make.

    Convolution, bias or batch normalisation, ReLU and pooling (LeCun et al. 1998, doi 10.1109/5.726791), the blocks
    plain, residual (He et al. 2015, arXiv 1512.03385) or inception (Szegedy et al. 2014, arXiv 1409.4842). The
    learning rate may follow one cycle (Smith and Topin 2017, arXiv 1708.07120), its peak the optimizer's own rate; a
    run that is resumed to go on for longer goes on along the longer cycle.

    Args:
        channels: of each stage; a stage is one convolution, one residual or one inception block.
        block: what a stage is made of.
        batch_norm: normalise after each convolution.
        feature_dim: width of the features before the last layer.
        dropout: probability of dropping a feature in training.
        schedule: how the learning rate goes: as it is, or one cycle over the whole training.
        num_classes, image_shape: given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.
    """

    monitor = ("val/accuracy", "max")

    def __init__(
        self,
        channels: tuple[int, ...] = (32, 64, 128),
        block: BlockKind = "plain",
        batch_norm: bool = True,
        feature_dim: int = 128,
        dropout: float = 0.2,
        schedule: Schedule = "one_cycle",
        num_classes: int = 10,
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=3e-3),
    ) -> None:
        super().__init__(optimizer)
        self.save_hyperparameters()
        self.schedule = schedule
        self.feature_network = ConvFeatures(image_shape, channels, block, batch_norm, feature_dim)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(feature_dim, num_classes))

    def features(self, images: Tensor) -> Tensor:
        return self.feature_network(images)  # (N, feature_dim)

    def encode(self, images: Tensor) -> Tensor:
        return self.features(images)

    def encoder_network(self) -> nn.Module:
        return self.feature_network

    def forward(self, images: Tensor) -> Tensor:
        """Logits, N x num_classes."""
        return self.head(self.features(images))

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return classification_terms(self(batch[0]), batch[1])

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"probabilities": self(batch[0]).softmax(dim=1), "labels": batch[1]}
