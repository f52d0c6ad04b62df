"""What is measured of translated images beside real ones."""

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
"""Degrees; halfway from one of ten hues to the next."""


class TranslationScores:
    """What is measured of a model's translations of pairs; several processes see their own pairs, and are joined in
    `compute`.

    Args:
        model: has directions.
        data: whose pairs they are.
        pairs: this process's, whose real images are looked at now, once.
        judge: on the model's device; None: no digits and no Frechet distances.
        batch_size: images of 32 x 32 pixels that are translated and judged at a time; of larger ones fewer.
    """

    def __init__(
        self, model: Any, data: PairsDataModule, pairs: Pairs, judge: EvaluationClassifier | None, batch_size: int = 500
    ) -> None:
        pixels = max(side[1] * side[2] for side in (data.source_shape, data.image_shape))
        self.batch_size = max(1, min(batch_size, batch_size * 32 * 32 // pixels))
        device = float64_device(model.device)
        labelled, untranslated = pairs.labels is not None, data.baseline(pairs.source[:1]) is not None
        self.directions = {
            name: DirectionScores(data, name, judge, labelled, untranslated and name == "ab", device)
            for name in model.directions
        }
        self.cycles = {name[0]: _mean(device) for name in self.directions} if len(self.directions) == 2 else {}
        for part in self._parts(pairs):
            for name, scores in self.directions.items():
                scores.add_real(sides(part, name)[1])
                if scores.of_untranslated is not None:
                    plain = data.baseline(part.source)
                    assert plain is not None
                    scores.of_untranslated.add(plain, part.target)

    @torch.no_grad()
    def add_translations(self, model: Any, pairs: Pairs) -> None:
        """pairs: the same ones as at first."""
        for part in self._parts(pairs):
            for name, scores in self.directions.items():
                given, truth = sides(part, name)
                made = model.translate(given.to(model.device, model.dtype), name)
                scores.add(made, truth, part.labels)
                if self.cycles:
                    back = model.translate(made, name[::-1])
                    self.cycles[name[0]].update(_l1(*_on(scores.device, back, given)))

    def compute(self) -> dict[str, float]:
        """The numbers by their names; where an image is not finite, distances are infinite and PSNR minus infinite.

        With two directions each number has its direction behind its name, or the side where the cycle starts, and what
        is measured both ways has a mean under the name alone.
        """
        found = {name: scores.compute() for name, scores in self.directions.items()}
        cycles = {side: {"cycle_l1": cycle.compute().item()} for side, cycle in self.cycles.items()}
        return together(found) | together(cycles)

    def colors(self) -> dict[str, ColorCount]:
        """Hues asked for and obtained, in each direction in which images have hues to agree with."""
        return {name: s.color.compute() for name, s in self.directions.items() if s.color is not None}

    def forget_translations(self) -> None:
        """Makes it ready for other translations of the same pairs."""
        for scores in self.directions.values():
            scores.forget_translations()
        for cycle in self.cycles.values():
            cycle.reset()

    def _parts(self, pairs: Pairs) -> Iterator[Pairs]:
        for start in range(0, len(pairs.source), self.batch_size):
            yield portion(pairs, slice(start, start + self.batch_size))


class DirectionScores:
    """The part of one direction.

    Args:
        data: whose images they are.
        direction: `ab` or `ba`.
        judge: None for no digits and no Frechet distance.
        labelled: images come with their labels.
        untranslated: images that took no model are measured too, by `of_untranslated`.
        device: of the sums.
    """

    def __init__(
        self,
        data: PairsDataModule,
        direction: str,
        judge: EvaluationClassifier | None,
        labelled: bool,
        untranslated: bool,
        device: torch.device,
    ) -> None:
        self.device = device
        self.judge = judge
        shape = data.image_shape if direction == "ab" else data.source_shape
        hues = data.hues[direction == "ab"] if labelled else None
        self.hues = None if hues is None else torch.tensor(hues, dtype=torch.float32, device=device)
        self.color = None if hues is None else ColorAgreement(palette(hues), TOLERANCE).to(device)
        self.digits = _mean(device) if judge is not None and labelled else None
        self.frechet = None if judge is None else FrechetDistance(judge.num_features).to(device)
        self.closeness = Closeness(shape, data.aligned, device)
        self.of_untranslated = Closeness(shape, data.aligned, device) if untranslated else None

    def add_real(self, images: Tensor) -> None:
        """images: of the kind that translations are to be of, N x C x H x W in [0, 1]."""
        if self.judge is not None and self.frechet is not None:
            self.frechet.update(self.judge.features(images).to(self.device), real=True)
        self.closeness.add_real(images)
        if self.of_untranslated is not None:
            self.of_untranslated.add_real(images)

    def add(self, translations: Tensor, truth: Tensor, labels: Tensor | None) -> None:
        """translations, truth: N x C x H x W in [0, 1]. labels: of the images, as the data have them."""
        if self.judge is not None and self.frechet is not None:
            self.frechet.update(self.judge.features(translations).to(self.device), real=False)
        self.closeness.add(translations, truth)
        if labels is None:
            return
        images, classes = translations.float().to(self.device), class_of(labels).to(self.device)
        if self.judge is not None and self.digits is not None:
            self.digits.update((self.judge.classes(images).to(self.device) == classes).float())
        if self.color is not None and self.hues is not None:
            self.color.update(images, self.hues[classes])

    def compute(self) -> dict[str, float]:
        found = {}
        if self.color is not None:
            found["color_agreement"] = self.color.compute().agreement.item()
        if self.digits is not None:
            found["digit_agreement"] = self.digits.compute().item()
        if self.frechet is not None:
            found["frechet_classifier"] = self.frechet.compute().item()
        found |= self.closeness.compute()
        if self.of_untranslated is not None:
            found |= {f"{name}_input": value for name, value in self.of_untranslated.compute().items()}
        if "psnr_input" in found:
            found["psnr_gain"] = found["psnr"] - found["psnr_input"]
        return found

    def forget_translations(self) -> None:
        self.closeness.forget()
        for metric in (self.color, self.digits, self.frechet):
            if metric is not None:
                metric.reset()


class Closeness:
    """How close images are to those that they should be: `l1`, `psnr` and `ssim` of each to its own, and the distance
    of the two sets' spectra.

    Args:
        shape: channels, height, width; of images smaller than its window there is no SSIM.
        aligned: each image has one that it should be; else there are the spectra alone.
        device: of the sums.
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
            measure, worst = _OF_EACH[name]
            mean.update(torch.where(finite, measure(images, truth), worst))

    def compute(self) -> dict[str, float]:
        found = {name: mean.compute().item() for name, mean in self.means.items()}
        return found | {"spectrum_distance": self.spectrum.compute().item()}

    def forget(self) -> None:
        for metric in (*self.means.values(), self.spectrum):
            metric.reset()


def _l1(images: Tensor, truth: Tensor) -> Tensor:
    """Of each image, N; infinite for one that is not finite."""
    return (images - truth).abs().flatten(1).mean(dim=1).nan_to_num(torch.inf, posinf=torch.inf)


_OF_EACH = {"l1": (_l1, torch.inf), "psnr": (psnr, -torch.inf), "ssim": (ssim, 0.0)}
"""What is measured of each image, and what it is for one that is not finite."""


def sides(pairs: Pairs, direction: str) -> tuple[Tensor, Tensor]:
    """What is translated in a direction, and what it is to become."""
    return (pairs.source, pairs.target) if direction == "ab" else (pairs.target, pairs.source)


def portion(pairs: Pairs, part: slice) -> Pairs:
    return Pairs(pairs.source[part], pairs.target[part], None if pairs.labels is None else pairs.labels[part])


def palette(hues: Sequence[float]) -> list[float]:
    """The different hues among those of the classes, around the circle."""
    return sorted({float(hue) for hue in hues})


def together(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Numbers by the parts that they are of; a single part's as they are.

    Of several parts `name_part` for each, and the mean as `name` of what all of them have.
    """
    if len(found) < 2:
        return {name: value for of_part in found.values() for name, value in of_part.items()}
    shared = [name for name in next(iter(found.values())) if all(name in of_part for of_part in found.values())]
    means = {name: sum(of_part[name] for of_part in found.values()) / len(found) for name in shared}
    return means | {f"{name}_{part}": value for part, of_part in found.items() for name, value in of_part.items()}


def _on(device: torch.device, *images: Tensor) -> tuple[Tensor, ...]:
    return tuple(each.to(device).float() for each in images)


def _mean(device: torch.device) -> MeanMetric:
    return MeanMetric(nan_strategy="disable").to(device)
