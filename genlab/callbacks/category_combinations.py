import math
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn import functional as F

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
MOST_FULL_SIZE = 2500
"""Pixels on each side of a block; combinations beyond which images are drawn at half their size."""


class CategoryCombinations(Callback):
    """Every combination of categories, decoded in one sweep: media/combinations.png, and coloured ones sorted by hue
    as media/combinations_by_hue.png.

    Real numbers beside the categories stay at the mean of their prior, 0. Memory holds one batch and the small
    pictures. A class that a model can be asked for is no such category: ClassGrid shows it.

    Args:
        limit: beyond so many combinations, so many random ones are drawn instead; 0 for no picture.
        batch_size: combinations decoded at once.
    """

    def __init__(self, limit: int = 20000, batch_size: int = 1000) -> None:
        self.limit = limit
        self.batch_size = batch_size

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model: Any = pl_module
        able = isinstance(model, Decodes) and isinstance(model, HasLatentBlocks)
        if not able or class_block(model) is not None or not trainer.is_global_zero or self.limit < 1:
            return
        parts = model.latent_blocks()
        sizes = category_counts(parts)
        if not sizes:
            return
        total = math.prod(sizes)
        if total <= self.limit:
            sweep = enumerate_codes(parts, self.batch_size, model.device)
            title = f"all {total:,} combinations of {len(sizes)} variables"
        else:
            sweep = random_codes(parts, self.limit, self.batch_size, model.device)
            title = f"{self.limit:,} random combinations out of {float(total):.3g} of {len(sizes)} variables"
        count = min(total, self.limit)
        factor = 1 if count <= MOST_FULL_SIZE else 2
        small, hues = [], []
        for codes in sweep:
            images = model.decode(codes.to(model.dtype)).float()
            small.append(thumbnails(images, factor))
            hues.append(foreground_hue(images).cpu() if images.shape[1] == 3 else torch.zeros(len(images)))
        tiles = torch.cat(small)
        if factor > 1:
            title += f", at 1/{factor} of their size"
        if total <= self.limit:
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
    """Images in [0, 1] made `factor` times smaller, by means over squares, on the CPU."""
    return F.avg_pool2d(images, factor).cpu() if factor > 1 else images.cpu()


def block_mosaic(tiles: Tensor, sizes: list[int]) -> Tensor:
    """All combinations as one image: a block for each choice of all variables but the last two.

    Args:
        tiles: the image of each combination in the order of `enumerate_codes`, N x C x H x W.
        sizes: categories of each variable; in a block the last runs to the right, the one before it downwards.

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
    """Columns of a grid of `count` tiles about as wide as high."""
    return math.ceil(math.sqrt(count))
