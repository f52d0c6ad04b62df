import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from genlab.latents import class_block, decode_all, with_every_class
from genlab.media import framed, image_grid, save_picture, tile_centres
from genlab.random_state import isolated_rng

MOST_CLASSES = 20


class ClassGrid(Callback):
    """One draw of the prior a row, one class a column: media/class_grid.png, of models that can be asked for a class.

    Models of more than twenty classes have none.

    Args:
        rows: of the picture; 0 for none.
    """

    def __init__(self, rows: int = 8) -> None:
        self.rows = rows

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        part = class_block(pl_module)
        if part is None or part.categories > MOST_CLASSES or not trainer.is_global_zero or self.rows < 1:
            return
        with isolated_rng():
            draws = pl_module.sample_prior(self.rows)  # type: ignore[operator]
        columns = part.categories
        grid = image_grid(decode_all(pl_module, with_every_class(draws, part)), columns)
        named = trainer.datamodule.classes  # type: ignore[attr-defined]
        names = named if len(named) == columns else map(str, range(columns))
        ticks = list(zip(tile_centres(grid.width, columns), names, strict=True))
        save_picture(trainer, "class_grid", framed(grid, "samples: one noise a row, one class a column", xticks=ticks))
