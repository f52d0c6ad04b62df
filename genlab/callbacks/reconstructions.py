"""Pictures of images: reconstructions beside their originals, and walks between two codes."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from genlab.media import full_row, image_grid, save_picture
from lit_models.common.capabilities import Decodes, Encodes, Reconstructs
from lit_models.losses.classification import class_of


class Reconstructions(Callback):
    """Pairs of rows, originals above the model's version of them: media/reconstructions.png.

    Args:
        num_images: how many images, chosen at random but always the same.
        columns: how many in a row.
        every_n_epochs: also during training, on validation images; 0 for only at the end, on test images.
    """

    def __init__(self, num_images: int = 32, columns: int = 16, every_n_epochs: int = 5) -> None:
        self.num_images = num_images
        self.columns = columns
        self.every_n_epochs = every_n_epochs

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        every = self.every_n_epochs
        if every and not trainer.sanity_checking and (trainer.current_epoch + 1) % every == 0:
            self._draw(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, "test")

    @torch.no_grad()
    def _draw(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        if not isinstance(pl_module, Reconstructs) or not trainer.is_global_zero or self.num_images < 1:
            return
        images, _ = trainer.datamodule.examples(split, self.num_images)  # type: ignore[attr-defined]
        versions = pl_module.reconstruct(images.to(pl_module.device, pl_module.dtype)).float().cpu()
        pairs = zip(images.cpu().split(self.columns), versions.split(self.columns), strict=True)
        rows = [full_row(row, self.columns) for pair in pairs for row in pair]
        save_picture(trainer, "reconstructions", image_grid(torch.cat(rows), self.columns))


class Interpolation(Callback):
    """Walks z = (1 - a) z0 + a z1 between two images of given classes, decoded: media/interpolation.png.

    Each strip begins and ends with the two images themselves; they are the same ones for every model.

    Args:
        pairs: the classes at both ends of each strip.
        steps: decoded images in a strip, from a = 0 to a = 1.
    """

    def __init__(self, pairs: list[tuple[int, int]] | None = None, steps: int = 11) -> None:
        self.pairs = [(1, 5), (3, 6), (0, 4)] if pairs is None else pairs
        self.steps = steps

    @torch.no_grad()
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        able = isinstance(pl_module, Encodes) and isinstance(pl_module, Decodes)
        if not able or not trainer.is_global_zero:
            return
        images, labels = trainer.datamodule.examples("test", 1000)  # type: ignore[attr-defined]
        classes = class_of(labels)
        strips = []
        for first, second in self.pairs:
            if not ((classes == first).any() and (classes == second).any()):
                continue
            ends = torch.stack([images[classes == first][0], images[classes == second][0]])
            walk = interpolate(pl_module, ends, self.steps).float().to(ends.device)
            strips += [ends[:1], walk, ends[1:]]
        if strips:
            save_picture(trainer, "interpolation", image_grid(torch.cat(strips), self.steps + 2))


def interpolate(model: Any, ends: Tensor, steps: int) -> Tensor:
    """Decoded codes on the line between two images' codes: 2 x C x H x W -> steps x C x H x W."""
    start, stop = model.encode(ends.to(model.device, model.dtype))
    a = torch.linspace(0, 1, steps, device=start.device, dtype=start.dtype)[:, None]
    return model.decode((1 - a) * start + a * stop)
