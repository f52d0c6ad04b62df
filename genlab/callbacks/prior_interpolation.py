from typing import Any

import torch
from lightning import LightningModule, Trainer

from genlab.callbacks.picture import PictureCallback
from genlab.latent_paths import interpolate_codes, prior_path
from genlab.latents import class_block, decode_all, with_class
from genlab.media import framed, image_grid, save_picture
from genlab.random_state import isolated_rng
from lit_models.common.capabilities import Decodes, Encodes, HasLatentBlocks


class PriorInterpolation(PictureCallback):
    """Saves media/interpolation_z.png: images decoded between two samples of the prior, for models without an encoder.

    Real numbers with a normal prior are interpolated spherically (White 2016, arXiv 1609.04468), others linearly. Each
    row of a class-conditional model is of one class.

    Args:
        rows: Rows of the picture; 0 for no picture.
        steps: Images in a row, both ends included.
    """

    def __init__(self, rows: int = 10, steps: int = 11) -> None:
        self.rows = rows
        self.steps = steps

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model: Any = pl_module
        applies = isinstance(model, Decodes) and isinstance(model, HasLatentBlocks) and not isinstance(model, Encodes)
        if not applies or self.rows < 1 or self.steps < 2:
            return
        if all(block.kind == "categorical" for block in model.latent_blocks()):
            return
        with isolated_rng():
            starts, ends = model.sample_prior(2 * self.rows).float().chunk(2)
        block = class_block(model)
        if block is not None:
            classes = torch.arange(self.rows) % block.categories
            starts, ends = (with_class(codes, block, classes) for codes in (starts, ends))
        codes = interpolate_codes(starts, ends, self.steps, prior_path(model)).flatten(0, 1)
        grid = image_grid(decode_all(model, codes), self.steps)
        of_class = ", each row of one class" if block is not None else ""
        save_picture(
            trainer, "interpolation_z", framed(grid, f"interpolation between two samples of the prior{of_class}")
        )
