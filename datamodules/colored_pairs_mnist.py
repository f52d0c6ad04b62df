from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.base import Split
from datamodules.mnist import MNISTDataModule
from datamodules.pairs import ImageTransform, PairsDataModule
from datamodules.recolored_mnist import HUES, colorize

Source = Literal["grey", "edges"]


class ColoredPairsMNISTDataModule(PairsDataModule, MNISTDataModule):
    """Pairs for colouring MNIST: a grey digit or its outline, 1 x 28 x 28, and the coloured digit, 3 x 28 x 28.

    The hue of a target depends on its digit: ten saturated hues, 36 degrees apart, those of the sources of
    RecoloredMNISTDataModule.

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
        source: Kind of the sources: `grey` for the stored digit, `edges` for its outline of one pixel.

    Examples:
        >>> data = ColoredPairsMNISTDataModule(batch_size=32, source="edges")
        >>> data.source_shape, data.image_shape
        ((1, 28, 28), (3, 28, 28))
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

    def domain_transforms(self, split: Split) -> tuple[ImageTransform, ImageTransform]:
        def source(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Tensor:
            return outlines(images) if self.source == "edges" else images

        return source, colorize(HUES)


def outlines(images: Tensor) -> Tensor:
    """Returns the outlines of digits: the outer morphological gradient of the image thresholded at 0.5, as 0 and 1.

    The structuring element is a cross of 3 x 3 pixels: an outline pixel is dark and touches a bright one side by side.
    """
    shape = (images > 0.5).float()
    grown = torch.maximum(F.max_pool2d(shape, (3, 1), 1, (1, 0)), F.max_pool2d(shape, (1, 3), 1, (0, 1)))
    return grown - shape
