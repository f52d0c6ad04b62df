import torch
from lightning import LightningModule, Trainer

from genlab.callbacks.picture import PictureCallback
from genlab.media import full_row, image_grid, save_picture, to_same_shape
from lit_models.common.capabilities import HasOptimizedImages


class GeneratedImages(PictureCallback):
    """Saves the images of an image optimization: each as media/generated_images/<name>.png, and all of them below the
    pictures that they were made from as media/generated_images.png.

    Applies to neural style transfer, texture synthesis and feature inversion, which generate one image for each picture
    of the data.

    Args:
        columns: Images in a row of media/generated_images.png.

    Raises:
        ValueError: `columns` is below 1.
    """

    def __init__(self, columns: int = 6) -> None:
        if columns < 1:
            raise ValueError(f"generated_images.columns is {columns}; it must be at least 1")
        self.columns = columns

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, HasOptimizedImages):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        images = pl_module.optimized_images()
        for name, image in zip(data.names, images, strict=True):
            save_picture(trainer, f"generated_images/{name}", image_grid(image[None], 1, padding=0, scale=1))
        inputs = [rows for rows in data.examples("test", len(images)) if rows.ndim == images.ndim]
        columns = min(self.columns, len(images))
        blocks = zip(*(rows.split(columns) for rows in to_same_shape(*inputs, images)), strict=True)
        rows = [full_row(row, columns) for block in blocks for row in block]
        save_picture(trainer, "generated_images", image_grid(torch.cat(rows), columns))
