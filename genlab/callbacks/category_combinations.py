import math
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F

from genlab.callbacks.picture import PictureCallback
from genlab.latents import (
    category_counts,
    class_block,
    enumerate_codes,
    random_codes,
)
from genlab.media import framed, image_grid, save_picture
from genlab.metrics.color import foreground_hue
from lit_models.common.capabilities import Decodes, HasLatentBlocks

BLOCK_GAP = 2
"""Pixels on each side of a block of the mosaic."""
MAX_FULL_SIZE = 2500
"""Combinations beyond which images are drawn at half their size."""


class CategoryCombinations(PictureCallback):
    """Saves media/combinations.png, the decoded images of all combinations of a categorical code, and for colour
    images media/combinations_by_hue.png, the same images sorted by hue.

    Real numbers in the code are 0, the mean of their prior. Only one batch and the small pictures are in memory. The
    class of a class-conditional model is not such a category; ClassGrid shows it.

    Args:
        max_combinations: Largest number of combinations that are drawn. Of more combinations, as many random ones are
            drawn; 0 for no picture.
        batch_size: Combinations that are decoded at a time.
    """

    def __init__(self, max_combinations: int = 20000, batch_size: int = 1000) -> None:
        self.max_combinations = max_combinations
        self.batch_size = batch_size

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model: Any = pl_module
        applies = isinstance(model, Decodes) and isinstance(model, HasLatentBlocks)
        if not applies or class_block(model) is not None or self.max_combinations < 1:
            return
        blocks = model.latent_blocks()
        sizes = category_counts(blocks)
        if not sizes:
            return
        total = math.prod(sizes)
        if total <= self.max_combinations:
            batches = enumerate_codes(blocks, self.batch_size, model.device)
            title = f"all {total:,} combinations of {len(sizes)} variables"
        else:
            batches = random_codes(blocks, self.max_combinations, self.batch_size, model.device)
            title = f"{self.max_combinations:,} random combinations out of {float(total):.3g} of {len(sizes)} variables"
        count = min(total, self.max_combinations)
        factor = 1 if count <= MAX_FULL_SIZE else 2
        small, hues = [], []
        for codes in batches:
            images = model.decode(codes.to(model.dtype)).float()
            small.append(thumbnails(images, factor))
            hues.append(foreground_hue(images).cpu() if images.shape[1] == 3 else torch.zeros(len(images)))
        tiles = torch.cat(small)
        if factor > 1:
            title += f", at 1/{factor} of their size"
        if total <= self.max_combinations:
            grid = image_grid(block_mosaic(tiles, sizes), 1, 0, 1)
            last = f"variable {len(sizes)} to the right"
            other = f", variable {len(sizes) - 1} downwards" if len(sizes) > 1 else ""
            rest = ", the others from block to block" if len(sizes) > 2 else ""
            save_picture(trainer, "combinations", framed(grid, f"{title}; {last}{other}{rest}"))
        else:
            save_picture(trainer, "combinations", framed(image_grid(tiles, _near_square(count), 0, 1), title))
        if tiles.shape[1] == 3:
            grid = image_grid(tiles[torch.cat(hues).argsort()], _near_square(count), 0, 1)
            title += "; sorted by hue from left to right, row by row, those without one last"
            save_picture(trainer, "combinations_by_hue", framed(grid, title))


def thumbnails(images: Tensor, factor: int) -> Tensor:
    """Reduces images in [0, 1] by an integer factor, by means over squares, on the CPU."""
    return F.avg_pool2d(images, factor).cpu() if factor > 1 else images.cpu()


def block_mosaic(tiles: Tensor, sizes: list[int]) -> Tensor:
    """Arranges the images of all combinations in blocks, one for each value of all variables but the last two.

    In a block, the last variable changes to the right and the one before it downwards.

    Args:
        tiles: The image of each combination in the order of `enumerate_codes`, N x C x H x W.
        sizes: Number of categories of each variable.

    Returns:
        1 x C x height x width, white between the blocks.
    """
    height, width = [1, *sizes][-2:]
    blocks = math.prod(sizes) // (height * width)
    columns = _near_square(blocks)
    rows = math.ceil(blocks / columns)
    c, h, w = tiles.shape[1:]
    places = tiles.new_ones(rows * columns * height * width, c, h, w)
    places[: len(tiles)] = tiles
    apart = places.view(rows, columns, height, width, c, h, w).permute(4, 0, 2, 5, 1, 3, 6)
    apart = apart.reshape(c, rows, height * h, columns, width * w)
    gap = BLOCK_GAP
    apart = F.pad(apart, (gap, gap, 0, 0, gap, gap), value=1.0)
    return apart.reshape(1, c, rows * (height * h + 2 * gap), columns * (width * w + 2 * gap))


def _near_square(count: int) -> int:
    """The number of columns of a nearly square grid of `count` tiles."""
    return math.ceil(math.sqrt(count))
