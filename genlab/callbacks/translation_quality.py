from typing import Any

import torch
from lightning import LightningModule, Trainer
from PIL import Image
from torch import Tensor

from datamodules import REFERENCE_HUES, ImageDataModule, Pairs, PairsDataModule
from datamodules.base import Split
from genlab.callbacks.picture import PictureCallback
from genlab.evaluation.classifier import EvaluationClassifier, check_validation, evaluation_classifier_or_hint
from genlab.evaluation.sample_scores import ALL_IMAGES, TEST_SEED, VAL_SEED, selected_by_frechet
from genlab.evaluation.translation_scores import TranslationScores, input_and_target, palette, slice_pairs
from genlab.figures import hue_confusion_figure
from genlab.media import framed, image_grid, join_pictures, save_picture, tile_centres, to_same_shape
from genlab.metrics import ColorCount
from genlab.random_state import isolated_rng
from lit_models.common.capabilities import Translates
from lit_models.common.module import GenerativeModule

ROWS = 8
"""Rows of a block of the picture."""
MAX_BLOCKS = 8
MAX_WIDTH = 1100
"""Width in pixels that several blocks side by side may have."""
GAP = 12
"""Pixels between blocks."""
SIDES = {"ab": ("source", "target"), "ba": ("target", "source")}
"""Names of the input and the output of each direction."""


class TranslationQuality(PictureCallback):
    """Logs metrics of image-to-image translation, such as `test/psnr`, `test/ssim` and `test/frechet_classifier`.

    - `frechet_classifier`: the squared Frechet distance between the evaluation classifier's features of translations
      and of real images of their kind; lower is better. It selects the best checkpoint of some models.
    - `digit_agreement`: the share of translations that the classifier predicts to be of the class of the image. Colour
      images are classified by the largest channel of each pixel.
    - `color_agreement`, for data with a hue for each class: the share of translations whose hue is nearest to that of
      their class. Grey images agree with none.
    - `l1`, `psnr` in dB (at most 100) and `ssim`, for aligned data: between each translation and its target, averaged
      over the images. Images of less than 11 pixels a side have no SSIM.
    - `spectrum_distance`: the distance in dB between the mean power spectra of translations and of real images.
    - The same with the suffix `_input`, for data with a baseline that needs no model, such as the noisy image itself;
      and `psnr_gain`, the PSNR of the model minus that of the baseline.
    - `cycle_l1`, for models of two directions: the mean absolute difference between an image and its translation there
      and back; `cycle_l1_a` and `cycle_l1_b` by the side where it starts.

    Models of two directions have each metric with the suffixes `_ab` and `_ba`, and the mean of the two without a
    suffix. Without a classifier or labels, the other metrics are logged. A translation that is not finite agrees with
    nothing, and makes distances infinite and PSNR minus infinite. If trainer.limit_val_batches or limit_test_batches is
    a number of batches, the images are limited to that many batches of `batch_size`.

    Saves media/translations.png, test images beside their translations, and media/color_confusion.png, the hues of the
    classes against those of the translations.

    Args:
        classifier: Checkpoint of the evaluation classifier, a Classifier; or `train` for that of the data, which is
            trained first if it is missing. By default that of the data,
            `<run.root>/classifier_<data>/default/checkpoints/best.ckpt`, if it is there.
        num_images: Largest number of test images, all by default; 0 turns all metrics off.
        val_images: Largest number of validation images.
        batch_size: Images of 32 x 32 pixels that are translated at a time; fewer of larger ones.

    Raises:
        ValueError: A number is out of its range.
    """

    def __init__(
        self,
        classifier: str | None = None,
        num_images: int | None = None,
        val_images: int = 5000,
        batch_size: int = 500,
    ) -> None:
        if val_images < 2 or (num_images is not None and num_images < 0) or num_images == 1:
            raise ValueError(
                f"translation.num_images is {num_images} and val_images {val_images}; both must be at least 2,"
                " or num_images 0"
            )
        if batch_size < 1:
            raise ValueError(f"translation.batch_size is {batch_size}; it must be at least 1")
        self.classifier: str | EvaluationClassifier | None = classifier
        self.num_images = ALL_IMAGES if num_images is None else num_images
        self.val_images = val_images
        self.batch_size = batch_size
        self.evaluation_classifier: EvaluationClassifier | None = None
        self._translates = False
        self._validation: TranslationScores | None = None
        self._colors: dict[str, ColorCount] = {}

    @property
    def measures(self) -> bool:
        """Whether there are translations to measure and a classifier to measure them; known after `prepare`."""
        return self.evaluation_classifier is not None

    def applies(self, model: GenerativeModule, data: ImageDataModule) -> bool:
        """Whether there are translations to measure."""
        return isinstance(model, Translates) and isinstance(data, PairsDataModule) and self.num_images > 0

    def prepare(self, model: GenerativeModule, data: ImageDataModule, root: str) -> None:
        """Loads the classifier before the run starts. The random state of the run stays as it is.

        Args:
            model: The model of the run.
            data: The data of the run.
            root: Folder of all runs.

        Raises:
            CheckpointError: The classifier cannot be used.
            UsageError: There are too few validation images for a Frechet distance.
        """
        self.evaluation_classifier = None
        self._translates = self.applies(model, data)
        if not self._translates:
            return
        selects = selected_by_frechet(model)
        unmeasured = "Frechet distances of translations" if selects else None
        self.evaluation_classifier = evaluation_classifier_or_hint(
            self.classifier, data, root, selects, unmeasured, "--translation.classifier"
        )
        if self.evaluation_classifier is not None and selects:
            check_validation(data)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._translates or trainer.sanity_checking:
            return
        pairs = self._pairs(trainer, "val", self._limit_count(self.val_images, trainer.limit_val_batches))
        if self._validation is None:  # the real images are the same each time
            self._validation = self._scores(trainer, pl_module, pairs)
        self._measure(self._validation, trainer, pl_module, pairs, "val")
        self._validation.reset_translations()

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._translates:
            return
        pairs = self._pairs(trainer, "test", self._limit_count(self.num_images, trainer.limit_test_batches))
        scores = self._scores(trainer, pl_module, pairs)
        self._measure(scores, trainer, pl_module, pairs, "test")
        self._colors = scores.colors()

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        colors, self._colors = self._colors, {}
        if not self._translates:
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
        """This process's share of the pairs, which are the same ones each time."""
        share = slice(trainer.global_rank, None, trainer.world_size)
        return trainer.datamodule.pairs(split, count, part=share)  # type: ignore[attr-defined]

    def _scores(self, trainer: Trainer, model: LightningModule, pairs: Pairs) -> TranslationScores:
        classifier = None if self.evaluation_classifier is None else self.evaluation_classifier.to(model.device)
        return TranslationScores(model, trainer.datamodule, pairs, classifier, self.batch_size)  # type: ignore[attr-defined]

    def _measure(
        self, scores: TranslationScores, trainer: Trainer, model: LightningModule, pairs: Pairs, split: Split
    ) -> None:
        with isolated_rng((VAL_SEED if split == "val" else TEST_SEED) + trainer.global_rank):
            scores.add_translations(model, pairs)
        for name, value in scores.compute().items():
            model.log(f"{split}/{name}", value, sync_dist=True)  # all processes have the same values

    def _limit_count(self, count: int, limit: float) -> int:
        """Limits `count` to so many batches; a share of the batches does not limit it."""
        return min(count, max(2, limit * self.batch_size)) if isinstance(limit, int) else count


def color_names(hues: list[float]) -> list[str]:
    """The names of hues, or their degrees if they have no name."""
    names = {float(hue): name for name, hue in REFERENCE_HUES.items()}
    return [names.get(hue, f"{hue:g}°") for hue in hues]


def translations_picture(model: Any, data: PairsDataModule) -> Image.Image:
    """Test images, chosen at random but always the same, beside their translations, one direction below the other."""
    pairs = data.pairs("test", ROWS * MAX_BLOCKS)
    return join_pictures(
        [_direction_picture(model, data, direction, pairs) for direction in model.directions], vertical=True
    )


def _direction_picture(model: Any, data: PairsDataModule, direction: str, pairs: Pairs) -> Image.Image:
    blocks: list[Image.Image] = []
    ticks: list[tuple[float, str]] = []
    at = 0
    for start in range(0, len(pairs.source), ROWS):
        columns = translation_columns(model, data, direction, slice_pairs(pairs, slice(start, start + ROWS)))
        grid = image_grid(torch.stack(list(columns.values()), dim=1).flatten(0, 1), len(columns))
        if blocks and at + grid.width > MAX_WIDTH:
            break
        blocks += [grid, Image.new("RGB", (GAP, 1), "white")]
        ticks += [(at + x, name) for x, name in zip(tile_centres(grid.width, len(columns)), columns, strict=True)]
        at += grid.width + GAP
    source, target = SIDES[direction]
    return framed(join_pictures(blocks[:-1]), f"each {source}, and its translation to the {target}", xticks=ticks)


def translation_columns(model: Any, data: PairsDataModule, direction: str, pairs: Pairs) -> dict[str, Tensor]:
    """The columns of the picture by name, N x C x H x W in [0, 1], all of one shape, on the CPU."""
    (images, truth), (source, target) = input_and_target(pairs, direction), SIDES[direction]
    translated = model.translate(images.to(model.device, model.dtype), direction)
    columns = {source: images}
    baseline = data.baseline(images) if direction == "ab" else None
    if baseline is not None and baseline.shape != images.shape:
        columns["upscaled"] = baseline
    columns[target] = translated
    if direction[::-1] in model.directions:
        columns["back"] = model.translate(translated, direction[::-1])
    if data.aligned:
        columns["true"] = truth
    return dict(zip(columns, to_same_shape(*columns.values()), strict=True))
