from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.base import Split
from datamodules.mnist import MNISTDataModule
from datamodules.pairs import Paint, PairsDataModule
from datamodules.recolored_mnist import HUES, in_hues

Source = Literal["grey", "edges"]


class ColoredPairsMNISTDataModule(PairsDataModule, MNISTDataModule):
    """MNIST to be coloured: sources are grey digits or their outlines, 1 x 28 x 28, targets in hues, 3 x 28 x 28.

    The hues are those of RecoloredMNISTDataModule's sources, ten saturated ones 36 degrees apart, one for each digit.

    Args:
        root, batch_size, paired, val_size, seed, on_device, predict_split, eval_batch_size: as in PairsDataModule.
        source: `grey`, the digit as it is stored, or `edges`, its outline of one pixel.
    """

    image_shape = (3, 28, 28)
    classified_as = "mnist"
    hues: ClassVar[tuple[Sequence[float] | None, Sequence[float] | None]] = (None, HUES)

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 128,
        paired: bool = True,
        val_size: int = 5000,
        seed: int | None = None,
        on_device: bool | None = None,
        predict_split: Split = "test",
        eval_batch_size: int | None = None,
        source: Source = "grey",
    ) -> None:
        super().__init__(root, batch_size, paired, val_size, seed, on_device, predict_split, eval_batch_size)
        if source not in get_args(Source):
            raise ValueError(f"data.source is {source}; it is one of {', '.join(get_args(Source))}")
        self.source: Source = source

    @property
    def source_shape(self) -> tuple[int, int, int]:
        return (1, *self.image_shape[1:])

    def versions(self, split: Split) -> tuple[Paint, Paint]:
        def source(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Tensor:
            return outlines(images) if self.source == "edges" else images

        return source, in_hues(HUES)


def outlines(images: Tensor) -> Tensor:
    """The pixels that touch, side by side, what is brighter than half, and are not so themselves: 1, all others 0.

    It is the outer morphological gradient of the thresholded image by a cross of 3 x 3 pixels.
    """
    shape = (images > 0.5).float()
    grown = torch.maximum(F.max_pool2d(shape, (3, 1), 1, (1, 0)), F.max_pool2d(shape, (1, 3), 1, (0, 1)))
    return grown - shape
