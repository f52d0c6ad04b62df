import math
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc

from lit_models.common.autoencoder_base import AutoencoderBase
from lit_models.common.encoder_decoders import Networks, StridedNetworks
from lit_models.common.module import ImageShape
from lit_models.losses.classification import class_of

NORMAL = "normal"
"""Name of class 0 of data with anomalies; the other classes are kinds of anomalies."""


class AnomalyDetector(AutoencoderBase):
    """Autoencoder that detects anomalies by the reconstruction error s(x) = mean of (x - g(f(x)))^2 > t.

    It is trained on normal images to minimise s. The threshold t is the `threshold_quantile` of s on training images;
    with 0.95, about one normal image in twenty is a false alarm. The score is that of Hawkins et al. 2002, doi
    10.1007/3-540-46145-0_17, and of Sakurada and Yairi 2014, doi 10.1145/2689746.2689747. t is infinite at first. It is
    set at the end of each validation and of each epoch, and is saved in the checkpoint.

    On data whose class 0 is "normal", the test compares each other class, a kind of anomaly, with the normal images. It
    logs test/auroc_<kind>, their mean test/auroc, the fraction of each kind that is detected, test/detected_<kind>, and
    test/false_alarms and test/mse of the normal images. The metrics of a kind without test images are nan.

    Args:
        latent_dim: Width d of the latent code.
        networks: Encoder f and decoder g; StridedNetworks by default.
        threshold_quantile: Fraction of the training images whose score is below the threshold t.
        threshold_images: Number of training images that set the threshold; 0 to leave it infinite.
        image_shape: Channels, height, width of the images; train.py takes them from the data.
        optimizer: Optimizer; in Python, a function that makes it from the parameters.

    Raises:
        ValueError: `latent_dim` is below 1, the quantile outside [0, 1], or the number of images negative.

    Examples:
        >>> model = AnomalyDetector(latent_dim=4)
        >>> model.is_anomaly(torch.rand(2, 1, 28, 28))  # the threshold is infinite before training
        tensor([False, False])
    """

    monitor = ("val/mse", "min")
    threshold: Tensor

    def __init__(
        self,
        latent_dim: int = 10,
        networks: Networks | None = None,
        threshold_quantile: float = 0.95,
        threshold_images: int = 10_000,
        image_shape: ImageShape = (1, 28, 28),
        optimizer: OptimizerCallable = lambda params: torch.optim.Adam(params, lr=1e-3),
    ) -> None:
        super().__init__(optimizer)
        if latent_dim < 1:
            raise ValueError(f"latent_dim is {latent_dim}; it must be at least 1")
        if not 0 <= threshold_quantile <= 1 or threshold_images < 0:
            raise ValueError(
                f"threshold_quantile is {threshold_quantile} and threshold_images {threshold_images};"
                " they must be in [0, 1] and at least 0"
            )
        self.save_hyperparameters()
        self.latent_dim = latent_dim
        self.networks = networks or StridedNetworks()
        self.threshold_quantile = threshold_quantile
        self.threshold_images = threshold_images
        self.set_code_shape(self.networks, image_shape, latent_dim)
        self.encoder = self.networks.build_encoder(image_shape, latent_dim)
        self.decoder = self.networks.build_decoder(image_shape, latent_dim)
        self.register_buffer("threshold", torch.tensor(torch.inf))
        self.test_scores = ScoresByKind()
        self._threshold_step = -1

    def score_images(self, images: Tensor) -> Tensor:
        """Mean squared reconstruction error of each image: N x C x H x W -> N."""
        return (self.reconstruct(images).float() - images.float()).square().flatten(1).mean(dim=1)

    def is_anomaly(self, images: Tensor) -> Tensor:
        """Whether the score of each image is above the threshold: N x C x H x W -> bool, N."""
        return self.score_images(images) > self.threshold

    def loss_terms(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {"mse": F.mse_loss(self.reconstruct(batch[0]), batch[0])}

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        scores = self.score_images(batch[0])
        return {"scores": scores, "anomalies": scores > self.threshold, "labels": batch[1]}

    def on_validation_epoch_end(self) -> None:
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self.set_threshold()

    def on_train_epoch_end(self) -> None:
        """Sets the threshold in runs without validation, before the checkpoint of the epoch is written."""
        self.set_threshold()

    @torch.no_grad()
    def set_threshold(self) -> None:
        """Sets the threshold to the quantile of the scores of training images, with the current weights."""
        data = getattr(self.trainer, "datamodule", None)
        if data is None or not self.threshold_images or self._threshold_step == self.global_step:
            return
        training = self.training
        self.eval()
        size = max(1, min(500, 2**21 // math.prod(data.image_shape[1:])))  # fewer large images at once
        with self.trainer.precision_plugin.forward_context():
            batches = data.example_batches("train", self.threshold_images, size)
            scores = [self.score_images(images.to(self.device, self.dtype)) for images, _ in batches]
        self.threshold.copy_(torch.quantile(torch.cat(scores), self.threshold_quantile))
        self.train(training)
        self._threshold_step = self.global_step

    def on_test_epoch_start(self) -> None:
        self.test_scores.reset()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        if self._kinds():
            self.test_scores.update(self.score_images(batch[0]), class_of(batch[1]))
        else:
            super().test_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        kinds = self._kinds()
        if not kinds:
            return
        by_kind = [self.test_scores.of_kind(label) for label in range(len(kinds))]
        normal = by_kind[0]
        found = {"mse": normal.mean(), "false_alarms": (normal > self.threshold).float().mean()}
        areas = [area_under_roc(normal, anomalous) for anomalous in by_kind[1:]]
        found["auroc"] = torch.stack(areas).mean()
        for kind, area, anomalous in zip(kinds[1:], areas, by_kind[1:], strict=True):
            found[f"auroc_{kind}"] = area
            found[f"detected_{kind}"] = (anomalous > self.threshold).float().mean()
        self.log_dict({f"test/{name}": value for name, value in found.items()}, sync_dist=True)

    def _kinds(self) -> tuple[str, ...]:
        """Names of the kinds of images, "normal" first; empty if the data have no anomalies."""
        classes: tuple[str, ...] = getattr(getattr(self.trainer, "datamodule", None), "classes", ())
        return classes if len(classes) > 1 and classes[0] == NORMAL else ()


def area_under_roc(normal: Tensor, anomalous: Tensor) -> Tensor:
    """Probability that the score of an anomalous image is above that of a normal one; nan if there are none.

    Args:
        normal: Scores of normal images in [0, 1], N.
        anomalous: Scores of anomalous images in [0, 1], M.
    """
    if not len(normal) or not len(anomalous):
        return normal.new_tensor(torch.nan)
    labels = torch.cat([torch.zeros_like(normal, dtype=torch.int64), torch.ones_like(anomalous, dtype=torch.int64)])
    return binary_auroc(torch.cat([normal, anomalous]), labels)


class ScoresByKind(Metric):
    """Collects the score and the kind of every image, on the device and from all processes."""

    full_state_update = False
    is_differentiable = False

    scores: list[Tensor]
    kinds: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("kinds", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, kinds: Tensor) -> None:
        """Adds scores, N, and kinds, int64, N."""
        self.scores.append(scores.detach())
        self.kinds.append(kinds)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Scores and kinds of all images."""
        return _concatenated(self.scores), _concatenated(self.kinds)

    def of_kind(self, kind: int) -> Tensor:
        """Scores of the images of one kind, from all processes."""
        scores, kinds = self.compute()
        return scores[kinds == kind]


def _concatenated(parts: Any) -> Tensor:
    """Concatenates a list of tensors; the state is already one tensor after it was gathered from all processes."""
    return parts if isinstance(parts, Tensor) else torch.cat(list(parts))
