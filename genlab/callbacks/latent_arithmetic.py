from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor

from genlab.callbacks.sample_quality import SampleQuality
from genlab.evaluation.classifier import EvaluationClassifier
from genlab.evaluation.latent_arithmetic import AROUND, EXEMPLARS, Sum, add, most_confident, probabilities
from genlab.latents import decode_all
from genlab.media import join_pictures, framed, full_row, image_grid, save_picture, tile_centres
from genlab.random_state import isolated_rng
from lit_models.common.capabilities import Decodes, Encodes, HasLatentBlocks

COLUMNS = 7
"""Of a sum's picture: the three classes, white, and three of results."""
ROWS = ((7, 1, 4), (8, 3, 1), (9, 4, 0), (3, 5, 9))


class LatentArithmetic(Callback):
    """Arithmetic on z: media/arithmetic.png, of models that make images of real numbers alone and do not encode them.

    z = mean(a) - mean(b) + mean(c), each the mean of three z whose samples show one thing; around the image of z stand
    eight of z with uniform noise (Radford et al. 2015, arXiv 1511.06434, section 6.3.2). What was chosen by eye there
    is chosen by SampleQuality's classifier here, without which there is no picture: of each class the three samples
    that it is most_confident of. It also says what it reads in the result.

    Args:
        rows: classes a, b and c of each sum; sums of classes that are not drawn three times are left out. By default
            some digits', or else the first three classes that are drawn.
        num_codes: draws of the prior, among which the samples are chosen; 0 for no picture.
    """

    def __init__(self, rows: list[tuple[int, int, int]] | None = None, num_codes: int = 2000) -> None:
        self.rows = rows
        self.num_codes = num_codes

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model: Any = pl_module
        able = isinstance(model, Decodes) and isinstance(model, HasLatentBlocks) and not isinstance(model, Encodes)
        if not able or not trainer.is_global_zero or self.num_codes < EXEMPLARS:
            return
        judge = quality_classifier(trainer)
        if judge is None or judge.per_channel or any(part.kind != "continuous" for part in model.latent_blocks()):
            return
        judge.to(pl_module.device)
        with isolated_rng():
            codes = model.sample_prior(self.num_codes).float().cpu()
            exemplars = most_confident(codes, probabilities(judge, decode_all(model, codes)))
            sums = [add(exemplars, row, codes.std(dim=0)) for row in self._rows_of(exemplars)]
        if sums:
            names = trainer.datamodule.classes  # type: ignore[attr-defined]
            blocks = [sum_picture(model, judge, each, names) for each in sums]
            save_picture(trainer, "arithmetic", join_pictures(blocks, vertical=True))

    def _rows_of(self, exemplars: dict[int, Tensor]) -> list[tuple[int, int, int]]:
        wanted = ROWS if self.rows is None else self.rows
        rows = [(a, b, c) for a, b, c in wanted if {a, b, c} <= exemplars.keys()]
        if rows or self.rows is not None or len(exemplars) < 3:
            return rows
        a, b, c = sorted(exemplars)[:3]
        return [(a, b, c)]


def quality_classifier(trainer: Trainer) -> EvaluationClassifier | None:
    """The classifier that measures samples in this run, if there is one."""
    return next((found.judge for found in trainer.callbacks if isinstance(found, SampleQuality)), None)  # type: ignore[attr-defined]


def sum_picture(model: Any, judge: EvaluationClassifier, found: Sum, names: tuple[str, ...]) -> Image.Image:
    """Three samples of each class above the image of their mean, and the result in the middle of its variants."""
    means = decode_all(model, found.exemplars.mean(dim=1))
    exemplars, results = decode_all(model, found.exemplars.flatten(0, 1)), decode_all(model, found.codes)
    white = torch.ones_like(means[:1])
    rows = []
    for k in range(EXEMPLARS):
        rows += [exemplars[k::EXEMPLARS], white, results[3 * k : 3 * k + 3]]
    rows.append(full_row(means, COLUMNS))
    grid = image_grid(torch.cat(rows), COLUMNS)
    read = judge.modes(results).cpu()
    middle = int(read[AROUND // 2])
    a, b, c = (names[label] for label in found.classes)
    what, as_often = (names[middle] if middle >= 0 else "nothing", int((read == middle).sum()))
    title = f"{a} - {b} + {c}: the classifier reads {what}, as in {as_often} of the {AROUND + 1}"
    across, down = tile_centres(grid.width, COLUMNS), tile_centres(grid.height, 4)
    below = list(zip([*across[:3], across[5]], [a, f"- {b}", f"+ {c}", "mean - mean + mean"], strict=True))
    return framed(grid, title, xticks=below, yticks=[(down[1], "samples"), (down[3], "mean")])
