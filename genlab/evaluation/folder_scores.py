"""Scores of one set of images against another, by the features of a classifier or of Inception."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from genlab.devices import float64_device
from genlab.evaluation.classifier import EvaluationClassifier
from genlab.evaluation.inception import inception_distance
from genlab.metrics import FrechetDistance, KernelDistance, ManifoldDensityCoverage, ManifoldPrecisionRecall
from lit_models import CheckpointError, Classifier, GenerativeModule

INCEPTION_FEATURES = 2048
BETTER = {
    "frechet": "lower",
    "kernel": "lower",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
}
"""The scores, by the first part of their keys, and whether lower or higher is better."""


class ScoreFeatures(NamedTuple):
    """What extracts the features of images."""

    name: Literal["classifier", "inception"]
    """The last part of the keys of its scores."""
    num_features: int
    image_shape: tuple[int, int, int] | None
    """Channels, height, width of the images that it takes; None for any."""
    network: Any
    device: torch.device

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """uint8 N x C x H x W -> N x num_features."""
        images = images.to(self.device)
        if self.name == "inception":
            return self.network(images.expand(-1, 3, -1, -1))
        return self.network.features(images.float() / 255)


def classifier_features(checkpoint: Path, device: torch.device) -> ScoreFeatures:
    """The features of a trained Classifier.

    Raises:
        CheckpointError: The checkpoint cannot be loaded, or holds another model.
    """
    model = GenerativeModule.load(checkpoint)
    if not isinstance(model, Classifier):
        raise CheckpointError(f"{checkpoint} holds a {type(model).__name__}; features are those of a Classifier")
    network = EvaluationClassifier(model).to(device)
    return ScoreFeatures("classifier", network.num_features, tuple(model.hparams["image_shape"]), network, device)


def inception_features(device: torch.device, weights: str | None = None) -> ScoreFeatures:
    """The features of Inception, by which FID and KID are defined.

    Raises:
        UsageError: Its weights cannot be loaded.
    """
    network = inception_distance(weights, "--inception-weights").inception.to(device)
    return ScoreFeatures("inception", INCEPTION_FEATURES, None, network, device)


class FolderScores:
    """Scores samples against real images; keeps their features, not the images.

    Args:
        features: Extracts the features.
        seed: Seed of the subsets of the kernel distance.
    """

    def __init__(self, features: ScoreFeatures, seed: int = 0) -> None:
        self.features = features
        self.device = float64_device(features.device)
        self.counts = {True: 0, False: 0}
        self.metrics: dict[str, Any] = {
            "frechet": FrechetDistance(features.num_features),
            "kernel": KernelDistance(seed=seed),
            "precision_recall": ManifoldPrecisionRecall(),
            "density_coverage": ManifoldDensityCoverage(),
        }
        for metric in self.metrics.values():
            metric.to(self.device)

    @property
    def least(self) -> int:
        """Least number of images of each set."""
        return self.metrics["density_coverage"].neighbours + 1

    @property
    def subset_size(self) -> int:
        """Number of images in a subset of the kernel distance; known after `compute`."""
        return self.metrics["kernel"].subset_size

    def add(self, images: Tensor, real: bool) -> None:
        """images: uint8 N x C x H x W."""
        features = self.features(images).to(self.device)
        self.counts[real] += len(images)
        for metric in self.metrics.values():
            metric.update(features, real=real)

    def compute(self) -> dict[str, float]:
        """The scores; each key ends in the name of the features. Raises ValueError if there are too few images."""
        name = self.features.name
        kernel = self.metrics["kernel"].compute()
        scores = {
            f"frechet_{name}": self.metrics["frechet"].compute(),
            f"kernel_{name}": kernel.mean,
            f"kernel_{name}_deviation": kernel.deviation,
        }
        for metric in ("precision_recall", "density_coverage"):
            scores |= {f"{key}_{name}": value for key, value in self.metrics[metric].compute()._asdict().items()}
        return {key: float(value) for key, value in scores.items()}
