from lightning import LightningModule, Trainer

from genlab.callbacks.picture import PictureCallback
from genlab.latents import category_block, class_block, decode_all, with_every_class
from genlab.media import framed, image_grid, save_picture, tile_centres
from genlab.random_state import isolated_rng

MAX_CLASSES = 20


class ClassGrid(PictureCallback):
    """Saves media/class_grid.png: samples of a class-conditional model, one noise a row and one class a column.

    A model whose codes end in one categorical variable that it learned without labels has media/category_grid.png,
    with one category a column. There is no picture of more than twenty classes or categories.

    Args:
        rows: Rows of the picture; 0 for no picture.
    """

    def __init__(self, rows: int = 8) -> None:
        self.rows = rows

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        block = category_block(pl_module)
        if block is None or block.categories > MAX_CLASSES or self.rows < 1:
            return
        with isolated_rng():
            codes = pl_module.sample_prior(self.rows)  # type: ignore[operator]
        columns = block.categories
        grid = image_grid(decode_all(pl_module, with_every_class(codes, block)), columns)
        kind = "category" if class_block(pl_module) is None else "class"
        classes = trainer.datamodule.classes  # type: ignore[attr-defined]
        names = classes if kind == "class" and len(classes) == columns else map(str, range(columns))
        ticks = list(zip(tile_centres(grid.width, columns), names, strict=True))
        title = f"samples: one noise a row, one {kind} a column"
        save_picture(trainer, f"{kind}_grid", framed(grid, title, xticks=ticks))
