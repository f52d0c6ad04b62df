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
"""The name of class 0 of data that hold images of other kinds."""


class AnomalyDetector(AutoencoderBase):
    """Autoencoder that calls an image anomalous when it reconstructs it badly: s(x) = mean of (x - g(f(x)))^2 > t.

    Trained on normal images to minimise s; t is the `threshold_quantile` of s on training images, so that about one
    normal image in twenty is a false alarm. The score is that of Hawkins et al. 2002 (doi 10.1007/3-540-46145-0_17)
    and of Sakurada and Yairi 2014 (doi 10.1145/2689746.2689747). t is set at the end of each validation and of each
    epoch and is in the checkpoint; until then it is infinite.

    The test on data whose class 0 is "normal" measures the others against it: test/auroc_<kind>, their mean
    test/auroc, the share of each kind that is called anomalous (test/detected_<kind>), of the normal images
    test/false_alarms and test/mse. A kind of which no image was tested has nan.

    Args:
        latent_dim: width d of the code.
        networks: encoder f and decoder g; strided convolutions by default.
        threshold_quantile: share of the training images that are to pass as normal.
        threshold_images: training images that t is taken from; 0 to leave it infinite.
        image_shape: channels, height, width; given by the data when run through train.py.
        optimizer: makes the optimizer from the parameters.

    Raises:
        ValueError: `latent_dim` is below 1, or the quantile outside [0, 1], or the number of images negative.
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
                " they must be in 0 to 1 and at least 0"
            )
        self.save_hyperparameters()
        self.latent_dim = latent_dim
        self.networks = networks or StridedNetworks()
        self.threshold_quantile = threshold_quantile
        self.threshold_images = threshold_images
        self.encoder = self.networks.encoder(image_shape, latent_dim)
        self.decoder = self.networks.decoder(image_shape, latent_dim)
        self.register_buffer("threshold", torch.tensor(torch.inf))
        self.tested = Scores()
        self._threshold_step = -1

    def score_images(self, images: Tensor) -> Tensor:
        """Mean squared error of each image's reconstruction, N."""
        return (self.reconstruct(images).float() - images.float()).square().flatten(1).mean(dim=1)

    def is_anomaly(self, images: Tensor) -> Tensor:
        """Which images are beyond the threshold: bool, N."""
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
        """For runs that do not validate; before the checkpoint of the epoch is written."""
        self.set_threshold()

    @torch.no_grad()
    def set_threshold(self) -> None:
        """The quantile of the scores of the data's training images, by the weights as they are."""
        data = getattr(self.trainer, "datamodule", None)
        if data is None or not self.threshold_images or self._threshold_step == self.global_step:
            return
        training = self.training
        self.eval()
        images, _ = data.examples("train", self.threshold_images)
        with self.trainer.precision_plugin.forward_context():
            scores = [self.score_images(part.to(self.device, self.dtype)) for part in images.split(500)]
        self.threshold.copy_(torch.quantile(torch.cat(scores), self.threshold_quantile))
        self.train(training)
        self._threshold_step = self.global_step

    def on_test_epoch_start(self) -> None:
        self.tested.reset()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        if self._kinds():
            self.tested.update(self.score_images(batch[0]), class_of(batch[1]))
        else:
            super().test_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        kinds = self._kinds()
        if not kinds:
            return
        by_kind = [self.tested.of_kind(label) for label in range(len(kinds))]
        normal = by_kind[0]
        found = {"mse": normal.mean(), "false_alarms": (normal > self.threshold).float().mean()}
        areas = [area_under_roc(normal, foreign) for foreign in by_kind[1:]]
        found["auroc"] = torch.stack(areas).mean()
        for kind, area, foreign in zip(kinds[1:], areas, by_kind[1:], strict=True):
            found[f"auroc_{kind}"] = area
            found[f"detected_{kind}"] = (foreign > self.threshold).float().mean()
        self.log_dict({f"test/{name}": value for name, value in found.items()}, sync_dist=True)

    def _kinds(self) -> tuple[str, ...]:
        """The names of the kinds of images, the normal ones first; none where the data's classes are no kinds."""
        classes: tuple[str, ...] = getattr(getattr(self.trainer, "datamodule", None), "classes", ())
        return classes if len(classes) > 1 and classes[0] == NORMAL else ()


def area_under_roc(normal: Tensor, foreign: Tensor) -> Tensor:
    """The chance that a foreign image's score, in [0, 1], is above a normal one's; nan where there are none."""
    if not len(normal) or not len(foreign):
        return normal.new_tensor(torch.nan)
    labels = torch.cat([torch.zeros_like(normal, dtype=torch.int64), torch.ones_like(foreign, dtype=torch.int64)])
    return binary_auroc(torch.cat([normal, foreign]), labels)


class Scores(Metric):
    """Every image's score and kind, kept on the device and gathered from all ranks."""

    full_state_update = False
    is_differentiable = False

    scores: list[Tensor]
    kinds: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("kinds", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, kinds: Tensor) -> None:
        """scores: N; kinds: int64, N."""
        self.scores.append(scores.detach())
        self.kinds.append(kinds)

    def compute(self) -> tuple[Tensor, Tensor]:
        return _joined(self.scores), _joined(self.kinds)

    def of_kind(self, kind: int) -> Tensor:
        """The scores of all ranks' images of one kind."""
        scores, kinds = self.compute()
        return scores[kinds == kind]


def _joined(parts: Any) -> Tensor:
    """A list of tensors, or what is left of it when the ranks' were gathered."""
    return parts if isinstance(parts, Tensor) else torch.cat(list(parts))
