"""How well a model turns images of one kind into images of the other."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor

from datamodules import REFERENCE_HUES, ImageDataModule, Pairs, PairsDataModule
from datamodules.base import Split
from genlab.evaluation.classifier import EvaluationClassifier, check_validation, evaluation_classifier_or_hint
from genlab.evaluation.sample_scores import ALL_IMAGES, TEST_SEED, VAL_SEED, selected_by_frechet
from genlab.evaluation.translation_scores import TranslationScores, palette, portion, sides
from genlab.figures import hue_confusion_figure
from genlab.media import to_same_shape, join_pictures, framed, image_grid, save_picture, tile_centres
from genlab.metrics import ColorCount
from genlab.random_state import isolated_rng
from lit_models.common.capabilities import Translates
from lit_models.common.module import GenerativeModule

ROWS = 8
MOST_BLOCKS = 8
MOST_WIDTH = 1100
GAP = 12
"""Of a picture: blocks of as many rows, each block with the same columns, side by side in so many pixels, if there are
more than one; and pixels between them."""
SIDES = {"ab": ("source", "target"), "ba": ("target", "source")}
"""What is translated into what."""


class TranslationQuality(Callback):
    """Measures translations of images whose other version is known, or of images of two kinds that never met.

    - `frechet_classifier`: squared Frechet distance between a classifier's features of translations and of the real
      images of their kind; lower is better. It chooses the best checkpoint of models that say so.
    - `digit_agreement`: share of translations that the classifier sees in the class of the image. Of coloured digits it
      sees the brightest channel.
    - `color_agreement`: where the data show each class in a hue of its own, the share of translations whose hue is
      nearest to that of their class; grey ones have none.
    - `l1`, `psnr` in dB, at most 100, and `ssim`: of each translation beside the true other version of its image, where
      data are aligned; means over images. Images of less than 11 pixels a side have no SSIM.
    - `spectrum_distance`: between the mean power spectra of translations and real images, in dB.
    - The same with `_input` behind it of what takes no model, such as the noisy image itself, where the data have it;
      and `psnr_gain`, what the model adds to its PSNR.
    - `cycle_l1`: mean absolute difference of an image and what becomes of it there and back again, for models that go
      both ways; `cycle_l1_a` and `cycle_l1_b` by where it starts.

    For models that go both ways there are `_ab` and `_ba` of each, and their mean under the name alone. Without a
    classifier or labels the rest is measured. Where a translation is not finite it agrees with nothing, distances are
    infinite, and PSNR minus infinite. A number of batches in trainer.limit_val_batches or limit_test_batches limits
    images to so many times `batch_size`.

    Pictures: test images beside what is made of them in media/translations.png, hues asked for against those obtained
    in media/color_confusion.png.

    Args:
        classifier: checkpoint of a Classifier of these images; by default that of the data,
            `<run.root>/classifier_<data>/default/checkpoints/best.ckpt`.
        num_images: test images at most, all by default; 0 for no measurement at all.
        val_images: validation images at most.
        batch_size: images of 32 x 32 pixels that are translated and judged at a time; of larger ones fewer.

    Raises:
        ValueError: a number out of range.
    """

    pictures = True
    """Whether they are drawn; train.py sets it to run.pictures."""

    def __init__(
        self,
        classifier: str | None = None,
        num_images: int | None = None,
        val_images: int = 5000,
        batch_size: int = 500,
    ) -> None:
        if val_images < 2 or (num_images is not None and num_images < 0) or num_images == 1:
            raise ValueError(
                f"num_images is {num_images} and val_images {val_images}; they must be at least 2, or num_images 0"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.classifier = classifier
        self.num_images = ALL_IMAGES if num_images is None else num_images
        self.val_images = val_images
        self.batch_size = batch_size
        self.judge: EvaluationClassifier | None = None
        self._translates = False
        self._validation: TranslationScores | None = None
        self._colors: dict[str, ColorCount] = {}

    @property
    def measures(self) -> bool:
        """Whether there is a classifier, and something to measure by it; known after `prepare`."""
        return self.judge is not None

    def prepare(self, model: GenerativeModule, data: ImageDataModule, root: str) -> None:
        """Finds what it measures by, before anything is run; the run's random draws do not depend on it.

        Args:
            root: folder of all runs.

        Raises:
            CheckpointError: the classifier cannot be used.
            UsageError: what was asked for cannot be measured.
        """
        self.judge = None
        self._translates = isinstance(model, Translates) and isinstance(data, PairsDataModule) and self.num_images > 0
        if not self._translates:
            return
        chosen = selected_by_frechet(model)
        unmeasured = "Frechet distances of translations" if chosen else None
        self.judge = evaluation_classifier_or_hint(
            self.classifier, data, root, chosen, unmeasured, "--translation.classifier"
        )
        if self.judge is not None and chosen:
            check_validation(data)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._translates or trainer.sanity_checking:
            return
        pairs = self._pairs(trainer, "val", self._limited(self.val_images, trainer.limit_val_batches))
        if self._validation is None:  # its real images are the same each time
            self._validation = self._scores(trainer, pl_module, pairs)
        self._measure(self._validation, trainer, pl_module, pairs, "val")
        self._validation.forget_translations()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._translates:
            return
        pairs = self._pairs(trainer, "test", self._limited(self.num_images, trainer.limit_test_batches))
        scores = self._scores(trainer, pl_module, pairs)
        self._measure(scores, trainer, pl_module, pairs, "test")
        self._colors = scores.colors()

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        colors, self._colors = self._colors, {}
        if not (self._translates and self.pictures and trainer.is_global_zero):
            return
        model: Any = pl_module
        data: PairsDataModule = trainer.datamodule  # type: ignore[attr-defined]
        with isolated_rng(TEST_SEED):
            save_picture(trainer, "translations", translations_picture(model, data))
        for direction, count in colors.items():
            name = "color_confusion" if len(model.directions) == 1 else f"color_confusion_{direction}"
            hues = palette(data.hues[direction == "ab"] or ())
            save_picture(trainer, name, hue_confusion_figure(count, color_names(hues), "translations"))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._validation = None

    def _pairs(self, trainer: Trainer, split: Split, count: int) -> Pairs:
        """This process's share of them, which are the same ones each time."""
        share = slice(trainer.global_rank, None, trainer.world_size)
        return trainer.datamodule.pairs(split, count, part=share)  # type: ignore[attr-defined]

    def _scores(self, trainer: Trainer, model: LightningModule, pairs: Pairs) -> TranslationScores:
        judge = None if self.judge is None else self.judge.to(model.device)
        return TranslationScores(model, trainer.datamodule, pairs, judge, self.batch_size)  # type: ignore[attr-defined]

    def _measure(
        self, scores: TranslationScores, trainer: Trainer, model: LightningModule, pairs: Pairs, split: Split
    ) -> None:
        with isolated_rng((VAL_SEED if split == "val" else TEST_SEED) + trainer.global_rank):
            scores.add_translations(model, pairs)
        for name, value in scores.compute().items():
            model.log(f"{split}/{name}", value, sync_dist=True)  # every process finds the same

    def _limited(self, count: int, limit: float) -> int:
        """What a number of batches, not a share of them, leaves of `count`."""
        return min(count, max(2, limit * self.batch_size)) if isinstance(limit, int) else count


def color_names(hues: list[float]) -> list[str]:
    """Names of those that have one, degrees of the others."""
    names = {float(hue): name for name, hue in REFERENCE_HUES.items()}
    return [names.get(hue, f"{hue:g}°") for hue in hues]


def translations_picture(model: Any, data: PairsDataModule) -> Image.Image:
    """Test images, chosen at random but always the same, beside what is made of them, one direction below the other."""
    pairs = data.pairs("test", ROWS * MOST_BLOCKS)
    return join_pictures([_one_way(model, data, direction, pairs) for direction in model.directions], vertical=True)


def _one_way(model: Any, data: PairsDataModule, direction: str, pairs: Pairs) -> Image.Image:
    parts: list[Image.Image] = []
    ticks: list[tuple[float, str]] = []
    at = 0
    for start in range(0, len(pairs.source), ROWS):
        columns = columns_of(model, data, direction, portion(pairs, slice(start, start + ROWS)))
        grid = image_grid(torch.stack(list(columns.values()), dim=1).flatten(0, 1), len(columns))
        if parts and at + grid.width > MOST_WIDTH:
            break
        parts += [grid, Image.new("RGB", (GAP, 1), "white")]
        ticks += [(at + x, name) for x, name in zip(tile_centres(grid.width, len(columns)), columns, strict=True)]
        at += grid.width + GAP
    given, wanted = SIDES[direction]
    return framed(join_pictures(parts[:-1]), f"each {given}, and the {wanted} that is made of it", xticks=ticks)


def columns_of(model: Any, data: PairsDataModule, direction: str, pairs: Pairs) -> dict[str, Tensor]:
    """Images and what is made of them, by what they are, each N x C x H x W in [0, 1], all of one shape, on the CPU."""
    (given, truth), (was, becomes) = sides(pairs, direction), SIDES[direction]
    made = model.translate(given.to(model.device, model.dtype), direction)
    columns = {was: given}
    plain = data.baseline(given) if direction == "ab" else None
    if plain is not None and plain.shape != given.shape:
        columns["enlarged"] = plain
    columns[becomes] = made
    if direction[::-1] in model.directions:
        columns["back"] = model.translate(made, direction[::-1])
    if data.aligned:
        columns["true"] = truth
    return dict(zip(columns, to_same_shape(*columns.values()), strict=True))
