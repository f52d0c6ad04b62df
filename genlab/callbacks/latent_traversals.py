from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor

from genlab.latent_paths import traverse_categories, traverse_dimensions
from genlab.latents import decode_all, encode_all, latent_blocks
from genlab.media import join_pictures, framed, image_grid, save_picture, tile_centres
from lit_models.common.capabilities import Decodes, Encodes, LatentBlock


class LatentTraversals(Callback):
    """One latent dimension a row, changed alone around an example's code: media/traversals.png.

    A real number walks from -3 to 3 standard deviations around its mean over test images, rows in falling order of
    that standard deviation, as a dimension that carries nothing has nearly none; a categorical variable takes each of
    its categories, one a column.

    Args:
        most_rows: of real numbers, and of categorical variables; 0 for no picture.
        steps: images in a row of a real number.
        example: which of the test images' codes is changed.
        num_images: how many test images are encoded to find means and deviations.
    """

    def __init__(self, most_rows: int = 20, steps: int = 13, example: int = 0, num_images: int = 2000) -> None:
        self.most_rows = most_rows
        self.steps = steps
        self.example = example
        self.num_images = num_images

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not _walks(trainer, pl_module) or self.most_rows < 1 or self.steps < 2:
            return
        images, _ = trainer.datamodule.examples("test", self.num_images)  # type: ignore[attr-defined]
        codes = encode_all(pl_module, images)
        example = codes[self.example % len(codes)]
        pictures = []
        for part in latent_blocks(pl_module, codes.shape[1]):
            if part.kind == "continuous":
                pictures.append(self._numbers(pl_module, codes, example, part))
            else:
                pictures.append(self._categories(pl_module, example, part))
        save_picture(trainer, "traversals", join_pictures(pictures, vertical=True))

    def _numbers(self, model: Any, codes: Tensor, example: Tensor, part: LatentBlock) -> Image.Image:
        deviation = codes.std(dim=0, correction=0)
        rows = part.start + deviation[part.start : part.stop].argsort(descending=True)[: self.most_rows]
        walks = traverse_dimensions(example, codes.mean(dim=0), deviation, rows, self.steps)
        grid = image_grid(decode_all(model, walks), self.steps)
        offsets = torch.linspace(-3, 3, self.steps).tolist()
        columns = zip(tile_centres(grid.width, self.steps), (f"{offset:+.1f}" for offset in offsets), strict=True)
        names = [f"z{int(row) - part.start + 1} (sd {deviation[row]:.2f})" for row in rows]
        return framed(
            grid,
            f"one number changed at a time, {len(rows)} of {part.variables}, most active first",
            "standard deviations from the mean code",
            "",
            list(columns),
            list(zip(tile_centres(grid.height, len(rows)), names, strict=True)),
        )

    def _categories(self, model: Any, example: Tensor, part: LatentBlock) -> Image.Image:
        rows = min(part.variables, self.most_rows)
        grid = image_grid(
            decode_all(model, traverse_categories(example, part)[: rows * part.categories]), part.categories
        )
        columns = zip(tile_centres(grid.width, part.categories), map(str, range(part.categories)), strict=True)
        names = [f"variable {row + 1}" for row in range(rows)]
        return framed(
            grid,
            f"one categorical variable changed at a time, {rows} of {part.variables}",
            "category",
            "",
            list(columns),
            list(zip(tile_centres(grid.height, rows), names, strict=True)),
        )


def _walks(trainer: Trainer, model: object) -> bool:
    return trainer.is_global_zero and isinstance(model, Encodes) and isinstance(model, Decodes)
