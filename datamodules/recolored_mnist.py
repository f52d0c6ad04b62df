from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from datamodules.base import Split
from datamodules.colored_mnist import REFERENCE_HUES, hue_to_rgb
from datamodules.mnist import MNISTDataModule
from datamodules.pairs import Paint, PairsDataModule

HUES: tuple[float, ...] = tuple(REFERENCE_HUES.values())
"""Ten hues, as far apart as ten can be: the one of each digit among the sources."""
DERANGEMENT = (3, 6, 8, 1, 7, 9, 2, 0, 5, 4)
"""Among the targets digit k has the hue that digit DERANGEMENT[k] has among the sources; never its own, nor a turn of
the colour circle by one angle for all digits."""


class RecoloredMNISTDataModule(PairsDataModule, MNISTDataModule):
    """MNIST in two colourings, 3 x 28 x 28: sources paint each digit in a hue of its own, targets in another digit's.

    Ten saturated hues 36 degrees apart. Unpaired by default: no digit is ever seen in both colours, and what a model
    has to find out is which hue stands for which. Options as in PairsDataModule.
    """

    image_shape = (3, 28, 28)
    classified_as = "mnist"
    hues: ClassVar[tuple[Sequence[float] | None, Sequence[float] | None]] = (HUES, tuple(HUES[k] for k in DERANGEMENT))

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 128,
        paired: bool = False,
        val_size: int = 5000,
        seed: int | None = None,
        on_device: bool | None = None,
        predict_split: Split = "test",
        eval_batch_size: int | None = None,
    ) -> None:
        super().__init__(root, batch_size, paired, val_size, seed, on_device, predict_split, eval_batch_size)

    def versions(self, split: Split) -> tuple[Paint, Paint]:
        sources, targets = self.hues
        assert sources is not None and targets is not None
        return in_hues(sources), in_hues(targets)


def in_hues(hues: Sequence[float]) -> Paint:
    """Paints grey images of each class in its hue."""
    colors = hue_to_rgb(torch.tensor(hues))  # (K, 3)

    def paint(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Tensor:
        return images * colors.to(images.device, non_blocking=True)[labels][:, :, None, None]

    return paint
