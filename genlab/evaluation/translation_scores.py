"""Scores of image-to-image translations against real images."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from datamodules import Pairs, PairsDataModule
from genlab.devices import float64_device
from genlab.evaluation.classifier import EvaluationClassifier
from genlab.metrics import SSIM_WINDOW, ColorAgreement, ColorCount, FrechetDistance, SpectrumDistance, ssim
from lit_models.losses.classification import class_of
from lit_models.losses.distortion import psnr

TOLERANCE = 18.0
"""Degrees that a hue may differ: half the distance between two of ten hues."""


class TranslationScores:
    """Scores a model's translations of pairs. Each process adds its own pairs; `compute` combines all processes.

    Args:
        model: A model that translates images.
        data: The data module of the pairs.
        pairs: The pairs of this process. Their real images are added now.
        classifier: The evaluation classifier, on the model's device; None for no classes and no Frechet distances.
        batch_size: Images of 32 x 32 pixels that are translated at a time; fewer of larger ones.
    """

    def __init__(
        self,
        model: Any,
        data: PairsDataModule,
        pairs: Pairs,
        classifier: EvaluationClassifier | None,
        batch_size: int = 500,
    ) -> None:
        pixels = max(side[1] * side[2] for side in (data.source_shape, data.image_shape))
        self.batch_size = max(1, min(batch_size, batch_size * 32 * 32 // pixels))
        device = float64_device(model.device)
        labelled, baseline = pairs.labels is not None, data.baseline(pairs.source[:1]) is not None
        self.directions = {
            name: DirectionScores(data, name, classifier, labelled, baseline and name == "ab", device)
            for name in model.directions
        }
        self.cycles = {name[0]: _mean(device) for name in self.directions} if len(self.directions) == 2 else {}
        for batch in self._batches(pairs):
            for name, scores in self.directions.items():
                scores.add_real(input_and_target(batch, name)[1])
                if scores.baseline is not None:
                    images = data.baseline(batch.source)
                    assert images is not None
                    scores.baseline.add(images, batch.target)

    @torch.no_grad()
    def add_translations(self, model: Any, pairs: Pairs) -> None:
        """pairs: Those that were given to the constructor."""
        for batch in self._batches(pairs):
            for name, scores in self.directions.items():
                given, truth = input_and_target(batch, name)
                translated = model.translate(given.to(model.device, model.dtype), name)
                scores.add(translated, truth, batch.labels)
                if self.cycles:
                    back = model.translate(translated, name[::-1])
                    self.cycles[name[0]].update(_l1(*_on(scores.device, back, given)))

    def compute(self) -> dict[str, float]:
        """The scores by name. If an image is not finite, distances are infinite and PSNR is minus infinite.

        With two directions, names have the suffix of the direction, or of the side where a cycle starts, and the mean
        of both directions has the name without a suffix.
        """
        scores = {name: scores.compute() for name, scores in self.directions.items()}
        cycles = {side: {"cycle_l1": cycle.compute().item()} for side, cycle in self.cycles.items()}
        return combine_scores(scores) | combine_scores(cycles)

    def colors(self) -> dict[str, ColorCount]:
        """Requested hues against those of the translations, for each direction in which the target images have hues."""
        return {name: s.color.compute() for name, s in self.directions.items() if s.color is not None}

    def reset_translations(self) -> None:
        """Removes the translations and keeps the real images."""
        for scores in self.directions.values():
            scores.reset_translations()
        for cycle in self.cycles.values():
            cycle.reset()

    def _batches(self, pairs: Pairs) -> Iterator[Pairs]:
        for start in range(0, len(pairs.source), self.batch_size):
            yield slice_pairs(pairs, slice(start, start + self.batch_size))


class DirectionScores:
    """The scores of one direction.

    Args:
        data: The data module of the pairs.
        direction: `ab` (source to target) or `ba` (target to source).
        classifier: None for no classes and no Frechet distance.
        labelled: Images come with labels.
        baseline: Also score the data module's baseline, such as the noisy image itself.
        device: Device of the metrics.
    """

    def __init__(
        self,
        data: PairsDataModule,
        direction: str,
        classifier: EvaluationClassifier | None,
        labelled: bool,
        baseline: bool,
        device: torch.device,
    ) -> None:
        self.device = device
        self.classifier = classifier
        shape = data.image_shape if direction == "ab" else data.source_shape
        hues = data.hues[direction == "ab"] if labelled else None
        self.hues = None if hues is None else torch.tensor(hues, dtype=torch.float32, device=device)
        self.color = None if hues is None else ColorAgreement(palette(hues), TOLERANCE).to(device)
        self.classes = _mean(device) if classifier is not None and labelled else None
        self.frechet = None if classifier is None else FrechetDistance(classifier.num_features).to(device)
        self.pixels = PixelScores(shape, data.aligned, device)
        self.baseline = PixelScores(shape, data.aligned, device) if baseline else None

    def add_real(self, images: Tensor) -> None:
        """images: Real images of the kind that is translated to, N x C x H x W in [0, 1]."""
        if self.classifier is not None and self.frechet is not None:
            self.frechet.update(self.classifier.features(images).to(self.device), real=True)
        self.pixels.add_real(images)
        if self.baseline is not None:
            self.baseline.add_real(images)

    def add(self, translations: Tensor, truth: Tensor, labels: Tensor | None) -> None:
        """translations, truth: N x C x H x W in [0, 1]. labels: Labels of the images, as the data module gives them."""
        if self.classifier is not None and self.frechet is not None:
            self.frechet.update(self.classifier.features(translations).to(self.device), real=False)
        self.pixels.add(translations, truth)
        if labels is None:
            return
        images, classes = translations.float().to(self.device), class_of(labels).to(self.device)
        if self.classifier is not None and self.classes is not None:
            self.classes.update((self.classifier.classes(images).to(self.device) == classes).float())
        if self.color is not None and self.hues is not None:
            self.color.update(images, self.hues[classes])

    def compute(self) -> dict[str, float]:
        found = {}
        if self.color is not None:
            found["color_agreement"] = self.color.compute().agreement.item()
        if self.classes is not None:
            found["digit_agreement"] = self.classes.compute().item()
        if self.frechet is not None:
            found["frechet_classifier"] = self.frechet.compute().item()
        found |= self.pixels.compute()
        if self.baseline is not None:
            found |= {f"{name}_input": value for name, value in self.baseline.compute().items()}
        if "psnr_input" in found:
            found["psnr_gain"] = found["psnr"] - found["psnr_input"]
        return found

    def reset_translations(self) -> None:
        self.pixels.reset()
        for metric in (self.color, self.classes, self.frechet):
            if metric is not None:
                metric.reset()


class PixelScores:
    """Scores of pixels: `l1`, `psnr` and `ssim` between each image and its target, and the distance between the spectra
    of the two sets of images.

    Args:
        shape: Channels, height and width. Images smaller than the window of SSIM have no `ssim`.
        aligned: Each image has a target; otherwise only the spectra are compared.
        device: Device of the metrics.
    """

    def __init__(self, shape: Sequence[int], aligned: bool, device: torch.device) -> None:
        self.device = device
        names = (("l1", "psnr", "ssim") if min(shape[1:]) >= SSIM_WINDOW else ("l1", "psnr")) if aligned else ()
        self.means = {name: _mean(device) for name in names}
        self.spectrum = SpectrumDistance((shape[1], shape[2])).to(device)

    def add_real(self, images: Tensor) -> None:
        self.spectrum.update(images.to(self.device), real=True)

    def add(self, images: Tensor, truth: Tensor) -> None:
        images, truth = _on(self.device, images, truth)
        self.spectrum.update(images, real=False)
        finite = images.flatten(1).isfinite().all(dim=1)
        for name, mean in self.means.items():
            measure, worst = _IMAGE_SCORES[name]
            mean.update(torch.where(finite, measure(images, truth), worst))

    def compute(self) -> dict[str, float]:
        found = {name: mean.compute().item() for name, mean in self.means.items()}
        return found | {"spectrum_distance": self.spectrum.compute().item()}

    def reset(self) -> None:
        for metric in (*self.means.values(), self.spectrum):
            metric.reset()


def _l1(images: Tensor, truth: Tensor) -> Tensor:
    """The mean absolute difference of each image, N; infinite for an image that is not finite."""
    return (images - truth).abs().flatten(1).mean(dim=1).nan_to_num(torch.inf, posinf=torch.inf)


_IMAGE_SCORES = {"l1": (_l1, torch.inf), "psnr": (psnr, -torch.inf), "ssim": (ssim, 0.0)}
"""The score of each image, and its value for an image that is not finite."""


def input_and_target(pairs: Pairs, direction: str) -> tuple[Tensor, Tensor]:
    """The images that are translated in a direction, and those that they should become."""
    return (pairs.source, pairs.target) if direction == "ab" else (pairs.target, pairs.source)


def slice_pairs(pairs: Pairs, part: slice) -> Pairs:
    return Pairs(pairs.source[part], pairs.target[part], None if pairs.labels is None else pairs.labels[part])


def palette(hues: Sequence[float]) -> list[float]:
    """The different hues of the classes in rising order."""
    return sorted({float(hue) for hue in hues})


def combine_scores(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Combines the scores of several directions or sides; those of a single one stay as they are.

    Each score is there as `name_direction`, and scores that all directions have also as `name`, their mean.
    """
    if len(scores) < 2:
        return {name: value for of_one in scores.values() for name, value in of_one.items()}
    shared = [name for name in next(iter(scores.values())) if all(name in of_one for of_one in scores.values())]
    means = {name: sum(of_one[name] for of_one in scores.values()) / len(scores) for name in shared}
    return means | {f"{name}_{suffix}": value for suffix, of_one in scores.items() for name, value in of_one.items()}


def _on(device: torch.device, *images: Tensor) -> tuple[Tensor, ...]:
    return tuple(each.to(device).float() for each in images)


def _mean(device: torch.device) -> MeanMetric:
    return MeanMetric(nan_strategy="disable").to(device)
