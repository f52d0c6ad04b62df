"""Real images and samples, drawn and counted."""

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
    """What a judge says of samples beside real images; several processes count their own, and are joined in `compute`.

    Args:
        judge: on the device where images are.
        labelled: samples come with the class that they were asked for.
        neighbours: k of precision and recall; None for neither.
        inception: the distance by Inception's features, when it is wanted; it starts anew.
    """

    def __init__(
        self,
        judge: EvaluationClassifier,
        labelled: bool = False,
        neighbours: int | None = None,
        inception: FrechetInceptionDistance | None = None,
    ) -> None:
        self.device = float64_device(judge.classifier.device)
        self.judge = judge
        self.frechet = self._here(FrechetDistance(judge.num_features))
        self.coverage = self._here(ModeCoverage(judge.num_modes))
        self.agreement = self._here(MeanMetric(nan_strategy="disable")) if labelled else None
        self.broken = self._here(SumMetric(nan_strategy="disable"))
        self.manifold = self._here(ManifoldPrecisionRecall(neighbours)) if neighbours else None
        self.inception = self._here(inception) if inception else None
        if self.inception is not None:
            self.inception.reset()

    def add_real(self, images: Tensor) -> None:
        """images: N x C x H x W in [0, 1]."""
        features = self.judge.features(images).to(self.device)
        self.frechet.update(features, real=True)
        if self.manifold is not None:
            self.manifold.update(features, real=True)
        if self.inception is not None:
            self.inception.update(inception_images(images).to(self.device), real=True)

    def add_samples(self, images: Tensor, label: int | None = None) -> None:
        """images: N x C x H x W in [0, 1]. label: the class that they were asked for."""
        features, modes = (found.to(self.device) for found in self.judge(images))
        self.frechet.update(features, real=False)
        self.coverage.update(modes)
        self.broken.update((modes < 0).sum())
        if self.agreement is not None and label is not None:
            self.agreement.update((modes == label).float())
        if self.manifold is not None:
            self.manifold.update(features, real=False)
        if self.inception is not None:
            self.inception.update(inception_images(images).to(self.device), real=False)

    def compute(self) -> dict[str, float]:
        """The numbers by their names; distances are infinite when a sample is not finite."""
        coverage = self.coverage.compute()
        found = {
            "frechet_classifier": self.frechet.compute().item(),
            "modes": float(coverage.modes),
            "modes_kl": coverage.kl.item(),
        }
        if self.agreement is not None:
            found["class_agreement"] = self.agreement.compute().item()
        if self.manifold is not None:
            found |= {name: share.item() for name, share in self.manifold.compute()._asdict().items()}
        if self.inception is not None:
            finite = bool(self.broken.compute() == 0)  # which levels of 0 to 255 do not tell
            found["frechet_inception"] = self.inception.compute().item() if finite else torch.inf
        return found

    def forget_samples(self) -> None:
        """Makes it ready for other samples beside the same real images; not with precision and recall or Inception."""
        for metric in (self.frechet, self.coverage, self.agreement, self.broken):
            if metric is not None:
                metric.reset()

    def _here(self, metric: Any) -> Any:
        return metric.to(self.device)


def draw_samples(
    model: Any, n: int, batch_size: int, rank: int = 0, world_size: int = 1
) -> Iterator[tuple[Tensor, int | None]]:
    """This process's share of `n` samples, in batches, each with the class that it was asked for.

    A model with classes is asked for each of them equally often, but for a remainder.
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
