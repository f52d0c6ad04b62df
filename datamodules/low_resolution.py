"""Images to be enlarged."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from datamodules.base import Split
from datamodules.cifar10 import CIFAR10DataModule
from datamodules.mnist import MNISTDataModule
from datamodules.pairs import Paint, PairsDataModule


class LowResolution(PairsDataModule):
    """Sources are targets whose sides are `factor` times shorter: bicubic, antialiased, clipped to [0, 1].

    The kernel is that of Keys 1981 (doi 10.1109/TASSP.1981.1163711) with a = -1/2, in shrinking and in enlarging, as in
    Pillow.

    Args:
        root, batch_size, paired, val_size, seed, on_device, predict_split, eval_batch_size: as in PairsDataModule.
        factor: how many times shorter each side is.

    Raises:
        ValueError: `factor` does not divide the sides.
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
            raise ValueError(
                f"data.factor is {factor}; it must divide the sides of images of {height} x {width} pixels"
            )
        self.factor = factor

    @property
    def source_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.image_shape
        return channels, height // self.factor, width // self.factor

    def versions(self, split: Split) -> tuple[Paint, Paint]:
        size = self.source_shape[1:]

        def small(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Tensor:
            return _bicubic(images, size)

        def large(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Tensor:
            return images

        return small, large

    def untranslated(self, source: Tensor) -> Tensor:
        """Bicubic enlargement, clipped to [0, 1]."""
        return _bicubic(source, self.image_shape[1:])


class LowResolutionMNISTDataModule(LowResolution, MNISTDataModule):
    """MNIST to be enlarged: sources of 14 x 14 or 7 x 7 pixels, targets of 28 x 28.

    Sources are made of targets by bicubic interpolation, antialiased and clipped to [0, 1].

    Args:
        root, batch_size, paired, val_size, seed, on_device, predict_split, eval_batch_size: as in PairsDataModule.
        factor: how many times shorter each side of a source is.
    """


class LowResolutionCIFAR10DataModule(LowResolution, CIFAR10DataModule):
    """CIFAR-10 to be enlarged: sources of 16 x 16 or 8 x 8 pixels, targets of 32 x 32.

    Sources are made of targets by bicubic interpolation, antialiased and clipped to [0, 1].

    Args:
        root, batch_size, paired, val_size, seed, on_device, predict_split, eval_batch_size: as in PairsDataModule.
        factor: how many times shorter each side of a source is.
    """


def _bicubic(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images of another height and width, in [0, 1]; without `antialias`, torch enlarges by a kernel of its own."""
    return F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
