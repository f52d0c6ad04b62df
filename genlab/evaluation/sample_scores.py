"""Scores of a model's samples against real images."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric, SumMetric
from torchmetrics.image.fid import FrechetInceptionDistance

from genlab.devices import float64_device
from genlab.evaluation.classifier import EvaluationClassifier
from genlab.evaluation.inception import inception_images
from genlab.metrics import FrechetDistance, ManifoldPrecisionRecall, ModeCoverage

FRECHET_MONITOR = "val/frechet_classifier"
"""The metric that selects the best checkpoint of models whose samples are measured in validation too."""
ALL_IMAGES = 10**9
"""A number of images that no split reaches."""
VAL_SEED, TEST_SEED = 1_000_000, 2_000_000
"""Seeds of the samples of validation and test, to which each process adds its rank. They differ, so that the best
weights are tested on other samples than those that selected them."""


class SampleScores:
    """Scores samples against real images. Each process adds its own images; `compute` combines all processes.

    Args:
        classifier: The evaluation classifier, on the device of the images.
        labelled: Samples come with the class that they were conditioned on.
        neighbours: k of precision and recall; None to leave them out.
        inception: The Inception distance, which is reset; None to leave it out.
    """

    def __init__(
        self,
        classifier: EvaluationClassifier,
        labelled: bool = False,
        neighbours: int | None = None,
        inception: FrechetInceptionDistance | None = None,
    ) -> None:
        self.device = float64_device(classifier.device)
        self.classifier = classifier
        self.frechet = self._to_device(FrechetDistance(classifier.num_features))
        self.coverage = self._to_device(ModeCoverage(classifier.num_modes))
        self.agreement = self._to_device(MeanMetric(nan_strategy="disable")) if labelled else None
        self.manifold = self._to_device(ManifoldPrecisionRecall(neighbours)) if neighbours else None
        self.inception = InceptionScores(inception, classifier.device) if inception else None

    def add_real(self, images: Tensor) -> None:
        """images: N x C x H x W in [0, 1]."""
        features = self.classifier.features(images).to(self.device)
        self.frechet.update(features, real=True)
        if self.manifold is not None:
            self.manifold.update(features, real=True)
        if self.inception is not None:
            self.inception.add_real(images)

    def add_samples(self, images: Tensor, label: int | None = None) -> None:
        """images: N x C x H x W in [0, 1]. label: The class that they were conditioned on."""
        features, modes = (values.to(self.device) for values in self.classifier(images))
        self.frechet.update(features, real=False)
        self.coverage.update(modes)
        if self.agreement is not None and label is not None:
            self.agreement.update((modes == label).float())
        if self.manifold is not None:
            self.manifold.update(features, real=False)
        if self.inception is not None:
            self.inception.add_samples(images)

    def compute(self) -> dict[str, float]:
        """The scores by name. Distances are infinite if a sample is not finite."""
        coverage = self.coverage.compute()
        scores = {
            "frechet_classifier": self.frechet.compute().item(),
            "modes": float(coverage.modes),
            "modes_kl": coverage.kl.item(),
        }
        if self.agreement is not None:
            scores["class_agreement"] = self.agreement.compute().item()
        if self.manifold is not None:
            scores |= {name: share.item() for name, share in self.manifold.compute()._asdict().items()}
        if self.inception is not None:
            scores |= self.inception.compute()
        return scores

    def reset_samples(self) -> None:
        """Removes the samples and keeps the real images; not for precision and recall or the Inception distance."""
        for metric in (self.frechet, self.coverage, self.agreement):
            if metric is not None:
                metric.reset()

    def _to_device(self, metric: Any) -> Any:
        return metric.to(self.device)


class InceptionScores:
    """Scores samples against real images by Inception alone. Each process adds its own images.

    Args:
        distance: The Inception distance, which is reset.
        device: Device of the images.
    """

    def __init__(self, distance: FrechetInceptionDistance, device: torch.device) -> None:
        self.device = float64_device(device)
        self.distance = distance.to(self.device)
        self.distance.reset()
        self.not_finite = SumMetric(nan_strategy="disable").to(self.device)

    def add_real(self, images: Tensor) -> None:
        """images: N x C x H x W in [0, 1], C 1 or 3."""
        self.distance.update(inception_images(images).to(self.device), real=True)

    def add_samples(self, images: Tensor, label: int | None = None) -> None:
        """images: N x C x H x W in [0, 1], C 1 or 3. label: Not used."""
        self.not_finite.update((~images.isfinite()).sum().to(self.device))  # uint8 images do not show it
        self.distance.update(inception_images(images).to(self.device), real=False)

    def compute(self) -> dict[str, float]:
        """The distance by its name; infinite if a sample is not finite."""
        finite = bool(self.not_finite.compute() == 0)
        return {"frechet_inception": self.distance.compute().item() if finite else torch.inf}


def draw_samples(
    model: Any, n: int, batch_size: int, rank: int = 0, world_size: int = 1
) -> Iterator[tuple[Tensor, int | None]]:
    """Yields this process's share of `n` samples in batches, each with the class that it is conditioned on.

    A class-conditional model generates equally many samples of each class, up to a remainder.
    """
    mine = torch.arange(n)[rank::world_size]
    classes = getattr(model, "num_classes", None)
    counts = [len(mine)] if classes is None else (mine % classes).bincount(minlength=classes).tolist()
    for number, count in enumerate(counts):
        label = None if classes is None else number
        for size in [batch_size] * (count // batch_size) + [count % batch_size] * (count % batch_size > 0):
            yield model.sample(size, label), label


def selected_by_frechet(model: Any) -> bool:
    """Whether the Frechet distance of the model's samples selects its best checkpoint."""
    return model.monitor is not None and model.monitor[0] == FRECHET_MONITOR
