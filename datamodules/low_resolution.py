"""Pairs of images of low and of full resolution, for super-resolution."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from datamodules.base import Split
from datamodules.cifar10 import CIFAR10DataModule
from datamodules.mnist import MNISTDataModule
from datamodules.pairs import ImageTransform, PairsDataModule


class LowResolutionDataModule(PairsDataModule):
    """Base of super-resolution data: sources are targets whose sides are `factor` times shorter.

    Sources are computed by antialiased bicubic interpolation and clipped to [0, 1]. The kernel is that of Keys 1981
    (doi 10.1109/TASSP.1981.1163711) with a = -1/2 in both directions, as in Pillow.

    Args:
        root: Folder of the data file `<root>/<name>.npz`, which is made or downloaded if it does not exist.
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
        factor: Factor by which each side of a source is shorter than that of its target.

    Raises:
        ValueError: `factor` does not divide the sides of the images.
    """

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
        factor: Literal[2, 4] = 2,
    ) -> None:
        super().__init__(root, batch_size, paired, val_size, seed, on_device, predict_split, eval_batch_size)
        height, width = self.image_shape[1:]
        if factor < 1 or height % factor or width % factor:
            raise ValueError(f"data.factor is {factor}; give one that divides the sides of {height} x {width} pixels")
        self.factor = factor

    @property
    def source_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.image_shape
        return channels, height // self.factor, width // self.factor

    def domain_transforms(self, split: Split) -> tuple[ImageTransform, ImageTransform]:
        size = self.source_shape[1:]

        def small(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Tensor:
            return _bicubic(images, size)

        def large(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Tensor:
            return images

        return small, large

    def baseline(self, source: Tensor) -> Tensor:
        """Returns the bicubic enlargement, clipped to [0, 1]."""
        return _bicubic(source, self.image_shape[1:])


class LowResolutionMNISTDataModule(LowResolutionDataModule, MNISTDataModule):
    """Pairs for super-resolution of MNIST: sources of 14 x 14 or 7 x 7 pixels, targets of 1 x 28 x 28.

    Sources are computed from targets by antialiased bicubic interpolation and clipped to [0, 1].

    Examples:
        >>> data = LowResolutionMNISTDataModule(batch_size=32, factor=2)
        >>> data.source_shape, data.image_shape
        ((1, 14, 14), (1, 28, 28))
    """


class LowResolutionCIFAR10DataModule(LowResolutionDataModule, CIFAR10DataModule):
    """Pairs for super-resolution of CIFAR-10: sources of 16 x 16 or 8 x 8 pixels, targets of 3 x 32 x 32.

    Sources are computed from targets by antialiased bicubic interpolation and clipped to [0, 1].

    Examples:
        >>> data = LowResolutionCIFAR10DataModule(batch_size=32, factor=2)
        >>> data.source_shape, data.image_shape
        ((3, 16, 16), (3, 32, 32))
    """


def _bicubic(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes images; `antialias` is also needed for enlargement, where torch has another kernel without it."""
    return F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
