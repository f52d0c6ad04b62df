from typing import Any

import torch
from lightning import LightningModule, Trainer
from PIL import Image
from torch import Tensor

from genlab.callbacks.picture import PictureCallback
from genlab.callbacks.test_codes import encode_test_images
from genlab.latent_paths import traverse_categories, traverse_dimensions
from genlab.latents import decode_all, dimension_name, latent_blocks
from genlab.media import framed, image_grid, join_pictures, save_picture, tile_centres
from lit_models.common.capabilities import Decodes, Encodes, LatentBlock


class LatentTraversals(PictureCallback):
    """Saves media/traversals.png: images decoded from one code of which a single dimension changes along each row.

    A real number goes from -3 to 3 standard deviations around its mean over test images. Rows are sorted by falling
    standard deviation: a dimension that carries no information has almost none. A dimension that is equal in all codes,
    such as the noise that an InfoGAN does not infer, has no row. A categorical variable takes each of its categories.

    Args:
        max_rows: Largest number of rows of real numbers, and of categorical variables; 0 for no picture.
        steps: Images in a row of a real number.
        example: Number of the test image whose code is changed.
        num_images: Test images that are encoded to find means and standard deviations.
    """

    def __init__(self, max_rows: int = 20, steps: int = 13, example: int = 0, num_images: int = 2000) -> None:
        self.max_rows = max_rows
        self.steps = steps
        self.example = example
        self.num_images = num_images

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        applies = isinstance(pl_module, Encodes) and isinstance(pl_module, Decodes)
        if not applies or self.max_rows < 1 or self.steps < 2:
            return
        codes = encode_test_images(trainer, pl_module, self.num_images)
        example = codes[self.example % len(codes)]
        deviation = codes.std(dim=0, correction=0)
        pictures = []
        for block in latent_blocks(pl_module, codes.shape[1]):
            if block.kind == "categorical":
                pictures.append(self._categories(pl_module, example, block))
            elif deviation[block.start : block.stop].any():
                pictures.append(self._numbers(pl_module, codes, example, block))
        if pictures:
            save_picture(trainer, "traversals", join_pictures(pictures, vertical=True))

    def _numbers(self, model: Any, codes: Tensor, example: Tensor, block: LatentBlock) -> Image.Image:
        deviation = codes.std(dim=0, correction=0)
        own = deviation[block.start : block.stop]
        rows = block.start + own.argsort(descending=True)[: min(self.max_rows, int((own != 0).sum()))]
        traversals = traverse_dimensions(example, codes.mean(dim=0), deviation, rows, self.steps)
        grid = image_grid(decode_all(model, traversals), self.steps)
        offsets = torch.linspace(-3, 3, self.steps).tolist()
        columns = zip(tile_centres(grid.width, self.steps), (f"{offset:+.1f}" for offset in offsets), strict=True)
        names = [f"{dimension_name(int(row))} (sd {deviation[row]:.2f})" for row in rows]
        return framed(
            grid,
            f"one number changed at a time, {len(rows)} of {block.num_variables}, most active first",
            "standard deviations from the mean code",
            "",
            list(columns),
            list(zip(tile_centres(grid.height, len(rows)), names, strict=True)),
        )

    def _categories(self, model: Any, example: Tensor, block: LatentBlock) -> Image.Image:
        rows = min(block.num_variables, self.max_rows)
        grid = image_grid(
            decode_all(model, traverse_categories(example, block)[: rows * block.categories]), block.categories
        )
        columns = zip(tile_centres(grid.width, block.categories), map(str, range(block.categories)), strict=True)
        names = [f"variable {row + 1}" for row in range(rows)]
        return framed(
            grid,
            f"one categorical variable changed at a time, {rows} of {block.num_variables}",
            "category",
            "",
            list(columns),
            list(zip(tile_centres(grid.height, rows), names, strict=True)),
        )
