from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from datamodules.base import Split
from datamodules.colored_mnist import REFERENCE_HUES, hue_to_rgb
from datamodules.mnist import MNISTDataModule
from datamodules.pairs import ImageTransform, PairsDataModule

HUES: tuple[float, ...] = tuple(REFERENCE_HUES.values())
"""Hue of each digit in the sources, in degrees."""
DERANGEMENT = (3, 6, 8, 1, 7, 9, 2, 0, 5, 4)
"""In the targets digit k has the hue of digit DERANGEMENT[k] in the sources. No digit keeps its hue, and the change is
not one rotation of the colour circle for all digits."""


class RecoloredMNISTDataModule(PairsDataModule, MNISTDataModule):
    """MNIST in two colourings, 3 x 28 x 28, to translate between them; unpaired by default.

    There are ten saturated hues, 36 degrees apart. In the sources each digit has a hue of its own, and in the targets
    it has the hue of another digit. Without pairs no image is seen in both colourings, and a model has to find out
    which hue corresponds to which.

    Args:
        root: Folder of the data file `<root>/mnist.npz`, which is made or downloaded if it does not exist.
        batch_size: Number of (source, target) pairs in a training batch, on each device.
        paired: Whether source and target of a training pair show the same image. Otherwise one half of the training
            images is used as sources only and the other half as targets only.
        val_size: Number of training images that are held out for validation.
        seed: Seed of the validation split, of the halves of unpaired data and of the order. The run's own seed by
            default.
        on_device: Whether the data are kept on the training device. By default they are if they take less than half of
            its free memory.
        predict_split: Split that `predict` runs over.
        eval_batch_size: Number of pairs in a batch of validation, test and predict. Four times `batch_size` by default.

    Examples:
        >>> data = RecoloredMNISTDataModule(batch_size=32)
        >>> data.source_shape, data.image_shape, data.paired
        ((3, 28, 28), (3, 28, 28), False)
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

    def domain_transforms(self, split: Split) -> tuple[ImageTransform, ImageTransform]:
        sources, targets = self.hues
        assert sources is not None and targets is not None
        return colorize(sources), colorize(targets)


def colorize(hues: Sequence[float]) -> ImageTransform:
    """Returns a function that gives the grey images of each class their hue."""
    colors = hue_to_rgb(torch.tensor(hues))  # (K, 3)

    def colorized(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Tensor:
        return images * colors.to(images.device, non_blocking=True)[labels][:, :, None, None]

    return colorized
