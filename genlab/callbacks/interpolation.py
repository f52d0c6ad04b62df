from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from genlab.callbacks.picture import PictureCallback
from genlab.media import framed, image_grid, save_picture, tile_centres
from lit_models.common.capabilities import Decodes, Encodes
from lit_models.losses.classification import class_of


class Interpolation(PictureCallback):
    """Saves media/interpolation.png: images decoded from z = (1 - a) z0 + a z1, between the codes of two test images.

    Each row begins and ends with the two images themselves, which are the same ones for every model.

    Args:
        pairs: The classes of the first and the last image of each row; by default 1 and 5, 3 and 6, 0 and 4.
        steps: Decoded images in a row, from a = 0 to a = 1.
    """

    def __init__(self, pairs: list[tuple[int, int]] | None = None, steps: int = 11) -> None:
        self.pairs = [(1, 5), (3, 6), (0, 4)] if pairs is None else pairs
        self.steps = steps

    def draw(self, trainer: Trainer, pl_module: LightningModule) -> None:
        applies = isinstance(pl_module, Encodes) and isinstance(pl_module, Decodes)
        if not applies:
            return
        images, labels = trainer.datamodule.examples("test", 1000)  # type: ignore[attr-defined]
        classes, names = class_of(labels), trainer.datamodule.classes  # type: ignore[attr-defined]
        rows: list[Tensor] = []
        ends_of_rows: list[str] = []
        for first, second in self.pairs:
            if not ((classes == first).any() and (classes == second).any()):
                continue
            ends = torch.stack([images[classes == first][0], images[classes == second][0]])
            decoded = interpolate_images(pl_module, ends, self.steps).float().to(ends.device)
            rows += [ends[:1], decoded, ends[1:]]
            ends_of_rows.append(f"{names[first]} to {names[second]}")
        if rows:
            grid = image_grid(torch.cat(rows), self.steps + 2)
            across = ["image", *(f"{a:.2g}" for a in torch.linspace(0, 1, self.steps).tolist()), "image"]
            save_picture(
                trainer,
                "interpolation",
                framed(
                    grid,
                    "Images decoded between the codes of two test images",
                    "a in z = (1 - a) z0 + a z1",
                    xticks=list(zip(tile_centres(grid.width, self.steps + 2), across, strict=True)),
                    yticks=list(zip(tile_centres(grid.height, len(ends_of_rows)), ends_of_rows, strict=True)),
                ),
            )


def interpolate_images(model: Any, ends: Tensor, steps: int) -> Tensor:
    """Decodes the codes on the line between the codes of two images: 2 x C x H x W -> steps x C x H x W."""
    start, stop = model.encode(ends.to(model.device, model.dtype))
    a = torch.linspace(0, 1, steps, device=start.device, dtype=start.dtype)[:, None]
    return model.decode((1 - a) * start + a * stop)
