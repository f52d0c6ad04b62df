from typing import Any

import torch
from lightning import LightningModule, Trainer
from PIL import Image
from torch import Tensor

from genlab.callbacks.picture import PictureCallback
from genlab.callbacks.sample_quality import SampleQuality
from genlab.evaluation.classifier import EvaluationClassifier
from genlab.evaluation.latent_arithmetic import (
    EXEMPLARS,
    VARIANTS,
    ArithmeticResult,
    add_codes,
    class_probabilities,
    most_confident,
)
from genlab.latents import decode_all
from genlab.media import framed, full_row, image_grid, join_pictures, save_picture, tile_centres
from genlab.random_state import isolated_rng
from lit_models.common.capabilities import Decodes, Encodes, HasLatentBlocks

COLUMNS = 7
"""Columns of a picture: three classes, a white one, three of results."""
ROWS = ((7, 1, 4), (8, 3, 1), (9, 4, 0), (3, 5, 9))


class LatentArithmetic(PictureCallback):
    """Saves media/arithmetic.png: arithmetic on latent codes, for models with real codes and without an encoder.

    z = mean(a) - mean(b) + mean(c), each the mean of three codes whose samples are of one class. The image of z is
    surrounded by those of eight codes with uniform noise (Radford et al. 2015, arXiv 1511.06434, section 6.3.2). In the
    paper, people choose the samples; here, the evaluation classifier of SampleQuality chooses the three of each class
    with the highest probabilities, and the title has its prediction for the result. There is no picture without an
    evaluation classifier.

    Args:
        rows: The classes a, b and c of each row. A row is left out if one of its classes is predicted for less than
            three samples. By default some rows of digits, or else the first three classes that are predicted.
        num_codes: Samples of the prior from which the three of each class are chosen; 0 for no picture.
    """

    def __init__(self, rows: list[tuple[int, int, int]] | None = None, num_codes: int = 2000) -> None:
        self.rows = rows
        self.num_codes = num_codes

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model: Any = pl_module
        applies = isinstance(model, Decodes) and isinstance(model, HasLatentBlocks) and not isinstance(model, Encodes)
        if not applies or self.num_codes < EXEMPLARS:
            return
        classifier = quality_classifier(trainer)
        if classifier is None or classifier.per_channel:
            return
        if any(block.kind != "continuous" for block in model.latent_blocks()):
            return
        classifier.to(pl_module.device)
        with isolated_rng():
            codes = model.sample_prior(self.num_codes).float().cpu()
            exemplars = most_confident(codes, class_probabilities(classifier, decode_all(model, codes)))
            results = [add_codes(exemplars, row, codes.std(dim=0)) for row in self._possible_rows(exemplars)]
        if results:
            names = trainer.datamodule.classes  # type: ignore[attr-defined]
            pictures = [result_picture(model, classifier, result, names) for result in results]
            save_picture(trainer, "arithmetic", join_pictures(pictures, vertical=True))

    def _possible_rows(self, exemplars: dict[int, Tensor]) -> list[tuple[int, int, int]]:
        wanted = ROWS if self.rows is None else self.rows
        rows = [(a, b, c) for a, b, c in wanted if {a, b, c} <= exemplars.keys()]
        if rows or self.rows is not None or len(exemplars) < 3:
            return rows
        a, b, c = sorted(exemplars)[:3]
        return [(a, b, c)]


def quality_classifier(trainer: Trainer) -> EvaluationClassifier | None:
    """The evaluation classifier of the run's SampleQuality callback, if there is one."""
    callbacks = (callback for callback in trainer.callbacks if isinstance(callback, SampleQuality))  # type: ignore[attr-defined]
    return next((callback.evaluation_classifier for callback in callbacks), None)


def result_picture(
    model: Any, classifier: EvaluationClassifier, result: ArithmeticResult, names: tuple[str, ...]
) -> Image.Image:
    """Draws three samples of each class above the image of their mean, and the result in the middle of its variants."""
    means = decode_all(model, result.exemplars.mean(dim=1))
    exemplars, variants = decode_all(model, result.exemplars.flatten(0, 1)), decode_all(model, result.codes)
    white = torch.ones_like(means[:1])
    rows = []
    for k in range(EXEMPLARS):
        rows += [exemplars[k::EXEMPLARS], white, variants[3 * k : 3 * k + 3]]
    rows.append(full_row(means, COLUMNS))
    grid = image_grid(torch.cat(rows), COLUMNS)
    predicted = classifier.modes(variants).cpu()
    middle = int(predicted[VARIANTS // 2])
    a, b, c = (names[label] for label in result.classes)
    name, count = names[middle] if middle >= 0 else "nothing", int((predicted == middle).sum())
    title = f"{a} - {b} + {c}: the classifier predicts {name}, as for {count} of the {VARIANTS + 1} images"
    across, down = tile_centres(grid.width, COLUMNS), tile_centres(grid.height, 4)
    below = list(zip([*across[:3], across[5]], [a, f"- {b}", f"+ {c}", "mean - mean + mean"], strict=True))
    return framed(grid, title, xticks=below, yticks=[(down[1], "samples"), (down[3], "mean")])
