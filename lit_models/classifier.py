import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_models.common.capabilities import check_num_classes
from lit_models.common.lr_schedules import LRSchedule
from lit_models.common.module import GenerativeModule, ImageShape
from lit_models.losses.classification import classification_terms
from lit_models.networks.classifier import BlockKind, ConvFeatures
from lit_models.networks.conv import depth_of, doubling_channels


class Classifier(GenerativeModule):
    """Convolutional classifier, trained by cross-entropy. Its features are used to evaluate generated images.

    Stages of convolution, batch normalisation, ReLU and pooling (LeCun et al. 1998, doi 10.1109/5.726791), in plain,
    residual (He et al. 2015, arXiv 1512.03385) or inception blocks (Szegedy et al. 2014, arXiv 1409.4842). The learning
    rate follows one cycle by default (Smith and Topin 2017, arXiv 1708.07120), whose peak is the optimizer's learning
    rate. If a run is resumed with more epochs, the cycle is stretched.

    Args:
        channels: Channels of each stage. A stage is one block, and max pooling halves the image between stages. By
            default 32, 64, 128, ..., at most 256; the number of stages follows from the size of the images: 3 for 28
            and 32, 4 for 64, 5 for 128.
        block: Kind of block: one plain convolution, a residual block or an inception block.
        batch_norm: Applies batch normalisation after each convolution.
        feature_dim: Width of the features before the last layer.
        dropout: Probability of dropping a feature in training.
        lr_schedule: Learning-rate schedule: `constant`, or `one_cycle` over the whole training.
        num_classes: Number of classes; train.py takes it from the data.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: the image is too small for so many stages, or there are fewer than two classes.

    Examples:
        >>> model = Classifier(channels=(8, 16), feature_dim=32)
        >>> model(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    monitor = ("val/accuracy", "max")

    def __init__(
        self,
        channels: tuple[int, ...] | None = None,
        block: BlockKind = "plain",
        batch_norm: bool = True,
        feature_dim: int = 128,
        dropout: float = 0.2,
        lr_schedule: LRSchedule = "one_cycle",
        num_classes: int = 10,
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=3e-3),
    ) -> None:
        super().__init__(optimizer)
        check_num_classes(num_classes)
        self.save_hyperparameters()
        self.lr_schedule = lr_schedule
        channels = channels or tuple(doubling_channels(depth_of(image_shape[1:]), 32, 256))
        self.feature_network = ConvFeatures(image_shape, channels, block, batch_norm, feature_dim)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(feature_dim, num_classes))

    def features(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x feature_dim."""
        return self.feature_network(images)

    def encode(self, images: Tensor) -> Tensor:
        """N x C x H x W -> N x feature_dim."""
        return self.features(images)

    def encoder_network(self) -> nn.Module:
        return self.feature_network

    def forward(self, images: Tensor) -> Tensor:
        """N x C x H x W -> logits, N x num_classes."""
        return self.head(self.features(images))

    @property
    def learns_labels(self) -> bool:
        return True

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return classification_terms(self(batch[0]), batch[1])

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"probabilities": self(batch[0]).softmax(dim=1), "labels": batch[1]}
