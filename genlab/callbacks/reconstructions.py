import torch
from lightning import LightningModule, Trainer

from genlab.callbacks.picture import PictureCallback
from genlab.media import framed, full_row, image_grid, save_picture, tile_centres
from lit_models.common.capabilities import Reconstructs


class Reconstructions(PictureCallback):
    """Saves media/reconstructions.png: rows of test images above the model's reconstructions of them.

    Args:
        num_images: Images in the picture, chosen at random but always the same; 0 for no picture.
        columns: Images in a row.
        every_n_epochs: Save the picture also during training, every so many epochs, with validation images; 0 for only
            after the test.
    """

    def __init__(self, num_images: int = 32, columns: int = 16, every_n_epochs: int = 5) -> None:
        self.num_images = num_images
        self.columns = columns
        self.every_n_epochs = every_n_epochs

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if due and not trainer.sanity_checking and trainer.is_global_zero:
            with self.leaving_out():
                self._draw(trainer, pl_module, "val")

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, "test")

    def _draw(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        if not isinstance(pl_module, Reconstructs) or self.num_images < 1:
            return
        images, _ = trainer.datamodule.examples(split, self.num_images)  # type: ignore[attr-defined]
        reconstructed = pl_module.reconstruct(images.to(pl_module.device, pl_module.dtype)).float().cpu()
        pairs = zip(images.cpu().split(self.columns), reconstructed.split(self.columns), strict=True)
        rows = [full_row(row, self.columns) for pair in pairs for row in pair]
        grid = image_grid(torch.cat(rows), self.columns)
        names = ["image", "reconstruction"] * (len(rows) // 2)
        title = f"{'Test' if split == 'test' else 'Validation'} images above their reconstructions"
        ticks = list(zip(tile_centres(grid.height, len(rows)), names, strict=True))
        save_picture(trainer, "reconstructions", framed(grid, title, yticks=ticks))
