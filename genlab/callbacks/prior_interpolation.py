from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from genlab.latent_paths import interpolate_codes, prior_path
from genlab.latents import class_block, decode_all, with_class
from genlab.media import framed, image_grid, save_picture
from genlab.random_state import isolated_rng
from lit_models.common.capabilities import Decodes, Encodes, HasLatentBlocks


class PriorInterpolation(Callback):
    """Walks between two draws of the prior, one a row: media/interpolation_z.png, of models that do not encode images.

    Real numbers of a normal law go along arcs (White 2016, arXiv 1609.04468), others along linear_path lines. A model that
    can be asked for a class keeps to one in each walk, the next one in the next.

    Args:
        walks: rows of the picture; 0 for none.
        steps: images in a row, both ends included.
    """

    def __init__(self, walks: int = 10, steps: int = 11) -> None:
        self.walks = walks
        self.steps = steps

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        model: Any = pl_module
        able = isinstance(model, Decodes) and isinstance(model, HasLatentBlocks) and not isinstance(model, Encodes)
        if not able or not trainer.is_global_zero or self.walks < 1 or self.steps < 2:
            return
        if all(part.kind == "categorical" for part in model.latent_blocks()):
            return
        with isolated_rng():
            starts, stops = model.sample_prior(2 * self.walks).float().chunk(2)
        part = class_block(model)
        if part is not None:
            classes = torch.arange(self.walks) % part.categories
            starts, stops = (with_class(codes, part, classes) for codes in (starts, stops))
        codes = interpolate_codes(starts, stops, self.steps, prior_path(model)).flatten(0, 1)
        grid = image_grid(decode_all(model, codes), self.steps)
        held = ", each of one class" if part is not None else ""
        save_picture(trainer, "interpolation_z", framed(grid, f"walks between two draws of the prior{held}"))
