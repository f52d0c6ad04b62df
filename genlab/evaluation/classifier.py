"""The classifier that measures what other models make."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules import ImageDataModule
from genlab.devices import float64_device
from genlab.metrics import FrechetDistance
from genlab.processes import first_process
from genlab.random_state import isolated_rng
from genlab.runs.errors import UsageError
from lit_models import Classifier
from lit_models.common.checkpoints import CheckpointError, command_that_makes


class Judgement(NamedTuple):
    """What a classifier makes of N images."""

    features: Tensor
    """float32, N x F."""
    modes: Tensor
    """The number of each image's mode, int64, N; -1 for an image that is not finite."""


class EvaluationClassifier:
    """A trained classifier, by whose features and classes images are measured.

    Args:
        classifier: on any device; it is put into evaluation mode.
        per_channel: each channel of an image is an image to the classifier. Features then stand one after the other,
            and a mode is the number whose digits in base K are the channels' classes, the first channel's the highest.
        channels: of an image, when they are read one by one.
    """

    def __init__(self, classifier: Classifier, per_channel: bool = False, channels: int = 3) -> None:
        self.classifier = classifier.eval().requires_grad_(False)
        self.per_channel = per_channel
        self._readings = channels if per_channel else 1
        self._classes = int(classifier.hparams["num_classes"])
        self.num_features = self._readings * int(classifier.hparams["feature_dim"])
        self.num_modes = self._classes**self._readings

    def to(self, device: torch.device) -> "EvaluationClassifier":
        self.classifier.to(device)
        return self

    def __call__(self, images: Tensor) -> Judgement:
        """images: N x C x H x W in [0, 1], of any float type and on any device."""
        features, logits = self._read(images)
        scale = self._classes ** torch.arange(self._readings - 1, -1, -1, device=logits.device)
        modes = (logits.argmax(dim=2) * scale).sum(dim=1)
        return Judgement(features, torch.where(features.isfinite().all(dim=1), modes, -1))

    def features(self, images: Tensor) -> Tensor:
        """float32, N x num_features."""
        return self._read(images)[0]

    def modes(self, images: Tensor) -> Tensor:
        """As in `Judgement`."""
        return self(images).modes

    def probabilities(self, images: Tensor) -> Tensor:
        """Of the K classes: N x K, or N x C x K when channels are read one by one."""
        probabilities = self._read(images)[1].softmax(dim=2)
        return probabilities if self.per_channel else probabilities[:, 0]

    def classes(self, images: Tensor) -> Tensor:
        """The one class of each image, whatever its colours, int64, N; -1 for an image that is not finite.

        Where channels are read one by one, it is that of the brightest channel of each pixel, as grey.
        """
        seen = images.amax(dim=1, keepdim=True) if self.per_channel else images
        features, logits = self._classify(seen)
        finite = seen.flatten(1).isfinite().all(dim=1).to(features.device)
        return torch.where(finite & features.isfinite().all(dim=1), logits.argmax(dim=1), -1)

    def _read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features, N x num_features, and logits, N x readings x K."""
        features, logits = self._classify(images.flatten(0, 1)[:, None] if self.per_channel else images)
        count = len(images)
        return features.reshape(count, self.num_features), logits.reshape(count, self._readings, self._classes)

    @torch.no_grad()
    def _classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of images as the classifier takes them: M x F and M x K."""
        features = self.classifier.features(images.to(self.classifier.device, torch.float32))
        return features, self.classifier.head(features)


def default_classifier(data: ImageDataModule, root: str | Path) -> Path:
    """Where the classifier of a data set lies below the folder of all runs, when it was trained by its config."""
    return Path(root) / f"classifier_{data.classified_as or data.name}" / "default" / "checkpoints" / "best.ckpt"


def find_evaluation_classifier(
    path: str | Path | None, data: ImageDataModule, image_shape: Sequence[int], root: str | Path
) -> EvaluationClassifier | None:
    """The judge of a data set's images.

    Args:
        path: a checkpoint of a Classifier; by default that of the data's own under `root`.
        image_shape: channels, height, width of the images that are to be measured.
        root: folder of all runs.

    Returns:
        None where no path is given and there is no default one.

    Raises:
        CheckpointError: it cannot be used, is of another kind of model, or is for other images or classes.
    """
    if path is None:
        path = default_classifier(data, root)
        if not path.is_file():
            return None
    per_channel = data.classified_as is not None
    classifier = Classifier.load(path)
    taken = tuple(classifier.hparams["image_shape"])
    needed = (1, *image_shape[1:]) if per_channel else tuple(image_shape)
    if taken != needed:
        raise CheckpointError(f"{path} classifies images of {_size(taken)}, and these are of {_size(needed)}")
    classes = int(classifier.hparams["num_classes"])
    if not per_channel and has_classes(data) and classes != data.num_classes:
        raise CheckpointError(f"{path} tells {classes} classes apart, and {data.name} has {data.num_classes}")
    return EvaluationClassifier(classifier, per_channel, image_shape[0])


def evaluation_classifier_or_hint(
    path: str | None, data: ImageDataModule, root: str | Path, needed: bool, unmeasured: str | None, option: str
) -> EvaluationClassifier | None:
    """As `find_evaluation_classifier`, for images like those that the data have models make; the run's draws do not depend on it.

    Args:
        path, data, root: as in `find_evaluation_classifier`.
        needed: something asks for it, so that a default one which is of no use is an error.
        unmeasured: what cannot be measured without one, which is said in one line; None: say nothing.
        option: by which one is named.

    Raises:
        CheckpointError: as `find_evaluation_classifier`.
    """
    try:
        with isolated_rng():
            judge = find_evaluation_classifier(path, data, data.image_shape, root)
    except CheckpointError:
        if path is not None or needed:
            raise
        return None
    if judge is None and unmeasured is not None and first_process():
        default = default_classifier(data, root)
        why, remedy = f"there is no {default}", command_that_makes(default)
        if not has_classes(data):
            why, remedy = (
                f"{data.name} has no classes for a classifier",
                f"; give one of images like these by {option}",
            )
        print(f"{why}, so {unmeasured} are not measured and the last weights are kept as best{remedy}", flush=True)
    return judge


def check_validation(data: ImageDataModule) -> None:
    """
    Raises:
        UsageError: a Frechet distance in validation would be of a single image.
    """
    if data.val_size == 1:
        raise UsageError(
            "there is 1 validation image, and a Frechet distance needs at least 2; give another data.val_size, or 0 for"
            " no validation"
        )


def has_classes(data: ImageDataModule) -> bool:
    """Whether there is more than one, so that a classifier has something to learn."""
    return data.num_classes > 1


def image_sets_frechet(judge: EvaluationClassifier, real: Tensor, fake: Tensor, batch_size: int = 500) -> float:
    """The squared Frechet distance between two sets of images, N x C x H x W in [0, 1], by the classifier's features.

    Two disjoint sets of real images give the floor, below which a model's distance means nothing.
    """
    distance = FrechetDistance(judge.num_features).to(float64_device(judge.classifier.device))
    for images, is_real in ((real, True), (fake, False)):
        for batch in images.split(batch_size):
            distance.update(judge.features(batch).to(distance.device), real=is_real)
    return distance.compute().item()


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
