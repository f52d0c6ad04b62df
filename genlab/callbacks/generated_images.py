"""What a model has made that makes a certain number of images and no others."""

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from genlab.media import to_same_shape, full_row, image_grid, save_picture
from lit_models.common.image_optimization import HasOptimizedImages


class GeneratedImages(Callback):
    """Each image in full, media/results/<picture>.png, and all of them below their pictures: media/results.png.

    Args:
        columns: images in a row of the picture of all.

    Raises:
        ValueError: there is no column.
    """

    def __init__(self, columns: int = 6) -> None:
        if columns < 1:
            raise ValueError(f"results.columns is {columns}; it must be at least 1")
        self.columns = columns

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, HasOptimizedImages) or not trainer.is_global_zero:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        images = pl_module.optimized_images()
        for name, image in zip(data.names, images, strict=True):
            save_picture(trainer, f"results/{name}", image_grid(image[None], 1, padding=0, scale=1))
        given = [rows for rows in data.examples("test", len(images)) if rows.ndim == images.ndim]
        columns = min(self.columns, len(images))
        blocks = zip(*(rows.split(columns) for rows in to_same_shape(*given, images)), strict=True)
        rows = [full_row(row, columns) for block in blocks for row in block]
        save_picture(trainer, "results", image_grid(torch.cat(rows), columns))
