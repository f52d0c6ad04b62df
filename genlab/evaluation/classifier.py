"""The evaluation classifier: a classifier trained here, whose features and predictions measure generated images."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from datamodules import ImageDataModule
from genlab.devices import float64_device
from genlab.metrics import FrechetDistance
from genlab.processes import first_process
from genlab.random_state import isolated_rng
from genlab.runs.errors import UsageError
from genlab.runs.folder import is_finished, safe_name
from lit_models import Classifier, GenerativeModule
from lit_models.common.checkpoints import CheckpointError, command_that_makes, read_checkpoint

TRAIN = "train"
"""Stands for the checkpoint of an evaluation classifier that is trained on the data first, unless there is one."""
TRY_INCEPTION = "or Inception with --quality.inception true, which measures the test"
"""What data without classes can be measured by."""


class OtherDataError(CheckpointError):
    """A classifier that learned other images than those that it would measure."""


class FeaturesAndModes(NamedTuple):
    """The features and the modes of N images."""

    features: Tensor
    """float32, N x F."""
    modes: Tensor
    """The number of each image's mode, int64, N; -1 for an image that is not finite."""


class EvaluationClassifier:
    """Extracts features of images and predicts their classes with a trained classifier.

    A mode is a class, or with `per_channel` a combination of classes: the number whose digits in base K are the classes
    of the channels, most significant first.

    Args:
        classifier: A trained classifier on any device. It is put into evaluation mode.
        per_channel: Classify each channel of an image as a grey image. The features of the channels are concatenated.
        channels: Channels of an image, for `per_channel`.
    """

    def __init__(self, classifier: Classifier, per_channel: bool = False, channels: int = 3) -> None:
        self.classifier = classifier.eval().requires_grad_(False)
        self.per_channel = per_channel
        self._predictions = channels if per_channel else 1
        self._classes = int(classifier.hparams["num_classes"])
        self.num_features = self._predictions * int(classifier.hparams["feature_dim"])
        self.num_modes = self._classes**self._predictions

    @property
    def device(self) -> torch.device:
        return self.classifier.device

    @property
    def fingerprint(self) -> str:
        """Hash of the weights: the values of metrics compare if those who measured them have the same."""
        return fingerprint_of_weights(self.classifier)

    def to(self, device: torch.device) -> "EvaluationClassifier":
        self.classifier.to(device)
        return self

    def __call__(self, images: Tensor) -> FeaturesAndModes:
        """images: N x C x H x W in [0, 1], of any float type and on any device."""
        features, logits = self._predict(images)
        scale = self._classes ** torch.arange(self._predictions - 1, -1, -1, device=logits.device)
        modes = (logits.argmax(dim=2) * scale).sum(dim=1)
        return FeaturesAndModes(features, torch.where(features.isfinite().all(dim=1), modes, -1))

    def features(self, images: Tensor) -> Tensor:
        """The features of images: float32, N x num_features."""
        return self._predict(images)[0]

    def modes(self, images: Tensor) -> Tensor:
        """The mode of each image, int64, N; -1 for an image that is not finite."""
        return self(images).modes

    def probabilities(self, images: Tensor) -> Tensor:
        """The probabilities of the K classes: N x K, with `per_channel` N x C x K."""
        probabilities = self._predict(images)[1].softmax(dim=2)
        return probabilities if self.per_channel else probabilities[:, 0]

    def classes(self, images: Tensor) -> Tensor:
        """The class of each image regardless of its colours, int64, N; -1 for an image that is not finite.

        With `per_channel`, a grey image made of the largest channel of each pixel is classified.
        """
        seen = images.amax(dim=1, keepdim=True) if self.per_channel else images
        features, logits = self._classify(seen)
        finite = seen.flatten(1).isfinite().all(dim=1).to(features.device)
        return torch.where(finite & features.isfinite().all(dim=1), logits.argmax(dim=1), -1)

    def _predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features, N x num_features, and logits, N x predictions x K."""
        features, logits = self._classify(images.flatten(0, 1)[:, None] if self.per_channel else images)
        count = len(images)
        return features.reshape(count, self.num_features), logits.reshape(count, self._predictions, self._classes)

    @torch.no_grad()
    def _classify(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features, M x F, and logits, M x K, of images of the shape that the classifier takes."""
        features = self.classifier.features(images.to(self.device, torch.float32))
        return features, self.classifier.head(features)


def fingerprint_of_weights(module: nn.Module) -> str:
    """Returns a hash of all weights and buffers of a module."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def default_classifier(data: ImageDataModule, root: str | Path) -> Path:
    """The checkpoint of a data set's classifier below the folder of all runs, if it was trained with its config."""
    experiment = safe_name(f"classifier_{data.classified_as or data.name}")
    return Path(root) / experiment / "default" / "checkpoints" / "best.ckpt"


def own_classifier(data: ImageDataModule, root: str | Path) -> Path:
    """The checkpoint of the classifier that is named by the fingerprint of its images, as another run is the default.

    Raises:
        DataError: The data are not available.
    """
    run = default_classifier(data, root).parents[1]
    return run.with_name(f"images={data.fingerprint[:12]}") / "checkpoints" / "best.ckpt"


def ready_classifier(data: ImageDataModule, root: str | Path) -> Path | None:
    """The checkpoint of a finished classifier that learned these images and that no option needs to name.

    Raises:
        DataError: The data are not available.
        CheckpointError: The checkpoint of a finished run cannot be read.
    """
    if _is_finished(own := own_classifier(data, root)):
        return own
    default = default_classifier(data, root)
    if not _is_finished(default) or read_checkpoint(default).get("data_fingerprint") != data.fingerprint:
        return None
    return default


def _is_finished(path: Path) -> bool:
    return path.is_file() and is_finished(path.parents[1])


def find_evaluation_classifier(
    path: str | Path | None, data: ImageDataModule, image_shape: Sequence[int], root: str | Path
) -> EvaluationClassifier | None:
    """Loads the evaluation classifier of a data set.

    Args:
        path: Checkpoint of a Classifier; None for the data set's own under `root`, whose run has finished: the one that
            is named by the fingerprint of the images, or else the default.
        data: The data set.
        image_shape: Channels, height and width of the images to measure.
        root: Folder of all runs.

    Returns:
        None if no path is given and there is no default.

    Raises:
        CheckpointError: The checkpoint cannot be loaded, or its model is no Classifier, or one for images of another
            shape or for another number of classes.
        OtherDataError: The classifier learned other images.
    """
    if path is None:
        path = default_classifier(data, root)
        if has_classes(data) and _is_finished(own := own_classifier(data, root)):
            path = own
        if not _is_finished(path):
            return None
    per_channel = data.classified_as is not None
    classifier = Classifier.load(path)
    shape = tuple(classifier.hparams["image_shape"])
    expected = (1, *image_shape[1:]) if per_channel else tuple(image_shape)
    if shape != expected:
        raise CheckpointError(
            f"{path} classifies images of {_describe(shape)}, but these are {_describe(expected)};"
            " give a classifier of images of this shape"
        )
    classes = int(classifier.hparams["num_classes"])
    if not per_channel and has_classes(data) and classes != data.num_classes:
        raise CheckpointError(
            f"{path} classifies into {classes} classes, but {data.name} has {data.num_classes}; give its own classifier"
        )
    if has_classes(data):  # data without classes have no classifier of their own
        check_same_data(classifier, data.fingerprint, path, f"those of {data.name} in {data.root}")
    return EvaluationClassifier(classifier, per_channel, image_shape[0])


def check_same_data(classifier: GenerativeModule, measured: str | None, path: str | Path, images: str) -> None:
    """Checks that a classifier learned the data that it measures; says so if its checkpoint does not tell.

    Args:
        classifier: A classifier that was loaded from `path`.
        measured: Fingerprint of the data to measure, or of the data that the model learned whose images are measured;
            None if it is unknown.
        path: Checkpoint of the classifier.
        images: The images to measure, in words.

    Raises:
        OtherDataError: It learned other data.
    """
    if classifier.data_fingerprint is None:
        if first_process():
            print(f"{path} does not tell which images it learned; whether they are {images} is not checked", flush=True)
    elif measured is not None and classifier.data_fingerprint != measured:
        raise OtherDataError(
            f"{path} learned other images than {images} and does not measure them;"
            " give a classifier that was trained on the same data"
        )


def evaluation_classifier_or_hint(
    path: str | EvaluationClassifier | None,
    data: ImageDataModule,
    root: str | Path,
    needed: bool,
    unmeasured: str | None,
    option: str,
) -> EvaluationClassifier | None:
    """Like `find_evaluation_classifier`, for generated images of the data; prints a hint if there is none.

    A default classifier that learned other images is named and not used. The random state of the run stays as it is.

    Args:
        path: That of `find_evaluation_classifier`, or a classifier, which is returned as it is.
        data, root: Those of `find_evaluation_classifier`.
        needed: Raise an error for a default classifier of images of another shape or with other classes; otherwise it
            is ignored.
        unmeasured: What is not measured without a classifier, named in the hint; None for no hint.
        option: The command-line option that names a classifier.

    Raises:
        CheckpointError: That of `find_evaluation_classifier`, for a classifier that is named or needed.
    """
    if isinstance(path, EvaluationClassifier):
        return path
    training = f"{option} {TRAIN} trains one first" if has_classes(data) else ""
    advice = f", or {training}" if training else ""
    try:
        with isolated_rng():
            classifier = find_evaluation_classifier(path, data, data.image_shape, root)
    except OtherDataError as error:
        if path is not None or (needed and unmeasured is None):
            raise OtherDataError(f"{error}{advice}") from error
        if first_process():
            print(f"{error}{advice}{f'; until then {_consequence(unmeasured)}' if unmeasured else ''}", flush=True)
        return None
    except CheckpointError as error:
        if path is not None or needed:
            raise CheckpointError(f"{error}{advice}") from error
        return None
    if classifier is None and unmeasured is not None and first_process():
        default = default_classifier(data, root)
        reason = f"the run of {default} has not finished" if default.is_file() else f"there is no {default}"
        remedy = f"{training}{command_that_makes(default).replace('; ', ', or ', 1)}"
        if not has_classes(data):
            reason = f"{data.name} has no classes to train a classifier on, and one of random weights is no measure"
            inception = f" {TRY_INCEPTION}" if option == "--quality.classifier" else ""
            remedy = f"give a classifier of similar images with {option}{inception}"
        print(f"{reason}, so {_consequence(unmeasured)}; {remedy}", flush=True)
    return classifier


def _consequence(unmeasured: str) -> str:
    return f"{unmeasured} are not measured and best.ckpt holds the last weights"


def check_validation(data: ImageDataModule) -> None:
    """Checks that validation has enough images for a Frechet distance.

    Raises:
        UsageError: There is a single validation image.
    """
    if data.val_size == 1:
        raise UsageError(
            "there is 1 validation image, and a Frechet distance needs at least 2; set a larger data.val_size, or 0 for"
            " no validation"
        )


def has_classes(data: ImageDataModule) -> bool:
    """Whether the data have more than one class, so that a classifier can be trained on them."""
    return data.num_classes > 1


def image_sets_frechet(classifier: EvaluationClassifier, real: Tensor, fake: Tensor, batch_size: int = 500) -> float:
    """The squared Frechet distance between the classifier's features of two sets of images, N x C x H x W in [0, 1].

    The distance between two disjoint sets of real images is the lowest that a model can be expected to reach.
    """
    distance = FrechetDistance(classifier.num_features).to(float64_device(classifier.device))
    for images, is_real in ((real, True), (fake, False)):
        for batch in images.split(batch_size):
            distance.update(classifier.features(batch).to(distance.device), real=is_real)
    return distance.compute().item()


def _describe(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
