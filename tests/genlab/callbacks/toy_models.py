"""Small models and trainers, whose pictures can be computed by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lit_models.common.capabilities import LatentBlock


class Painter(torch.nn.Module):
    """Decodes codes to images of 4 x 4 equal pixels: `paint` maps N x d to N x C in [0, 1]."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, blocks: list[LatentBlock], paint: Any) -> None:
        super().__init__()
        self.blocks = blocks
        self.paint = paint
        self.decoded: list[int] = []

    def latent_blocks(self) -> list[LatentBlock]:
        return self.blocks

    def sample_prior(self, n: int) -> Tensor:
        return torch.randn(n, self.blocks[-1].stop)

    def sample(self, n: int, label: int | None = None) -> Tensor:
        return self.decode(self.sample_prior(n))

    def decode(self, codes: Tensor) -> Tensor:
        self.decoded.append(len(codes))
        return self.paint(codes)[:, :, None, None].expand(-1, -1, 4, 4)

    def encode(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def encoder_network(self) -> torch.nn.Module:
        return torch.nn.Flatten()


def trainer(folder: Path, codes: Tensor, labels: Tensor | None = None) -> Any:
    """A trainer whose images are the codes themselves, with one row of pixels."""
    given = torch.zeros(len(codes), dtype=torch.int64) if labels is None else labels
    data = SimpleNamespace(
        examples=lambda split, n, seed=0: (codes[:n, None, None, :], given[:n]),
        example_batches=lambda split, n, batch_size, part: [data.examples(split, n)],
        classes=("a", "b", "c"),
        label_columns=("class",),
        image_shape=(1, 1, codes.shape[1]),
        val_size=1,
    )
    return SimpleNamespace(
        default_root_dir=str(folder),
        datamodule=data,
        callbacks=[],
        is_global_zero=True,
        loggers=[],
        global_step=0,
        current_epoch=0,
    )


def picture(folder: Path, name: str) -> np.ndarray:
    """Reads a picture of the run: height x width x 3, uint8."""
    return np.asarray(Image.open(folder / "media" / name).convert("RGB"))


def contains(whole: np.ndarray, part: np.ndarray) -> bool:
    """Whether `whole` contains the pixels of `part`."""
    height, width = part.shape[:2]
    corners = whole[: len(whole) - height + 1, : whole.shape[1] - width + 1]
    for row, column in np.argwhere((corners == part[0, 0]).all(axis=2)):
        if np.array_equal(whole[row : row + height, column : column + width], part):
            return True
    return False
