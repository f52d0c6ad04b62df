from typing import Protocol, runtime_checkable

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from genlab.callbacks.picture import PictureCallback
from genlab.media import framed, image_grid, save_picture, tile_centres
from genlab.random_state import isolated_rng
from lit_models.common.capabilities import Reconstructs


@runtime_checkable
class Corrupts(Protocol):
    def corrupt(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Corrupts images in [0, 1], N x C x H x W, in the same way as the model's test."""


class Denoising(PictureCallback):
    """Saves media/denoising.png: test images, their corrupted versions, and the model's restorations of these.

    Applies to models that corrupt images and reconstruct them.

    Args:
        num_images: Test images in the picture, chosen at random but always the same; 0 for no picture.
    """

    def __init__(self, num_images: int = 16) -> None:
        self.num_images = num_images

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Corrupts) or not isinstance(pl_module, Reconstructs) or self.num_images < 1:
            return
        clean, _ = trainer.datamodule.examples("test", self.num_images)  # type: ignore[attr-defined]
        clean = clean.to(pl_module.device, pl_module.dtype)
        with isolated_rng():
            corrupted = pl_module.corrupt(clean)
        grid = image_grid(torch.cat([clean, corrupted, pl_module.reconstruct(corrupted)]), len(clean))
        rows = zip(tile_centres(grid.height, 3), ("clean", "corrupted", "restored"), strict=True)
        save_picture(trainer, "denoising", framed(grid, "Restored test images", yticks=list(rows)))
