from pathlib import Path
from typing import ClassVar

import torchvision

from datamodules.base import ImageDataModule
from datamodules.files import Arrays, check_images, download, load_or_fetch


class MNISTDataModule(ImageDataModule):
    """60,000 training and 10,000 test images of handwritten digits, 1 x 28 x 28 (LeCun et al. 1998)."""

    name = "mnist"
    image_shape = (1, 28, 28)
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")

    def read(self) -> Arrays:
        return load_or_fetch(self.root, self.name, self._fetch, lambda arrays: check_images(arrays, (28, 28), 10))

    def _fetch(self, scratch: Path) -> Arrays:
        """From torchvision's own folder under root where that is whole, else by download."""

        def fetch() -> Arrays:
            try:
                parts = [torchvision.datasets.MNIST(self.root, train) for train in (True, False)]
            except RuntimeError:  # not there, or not whole
                parts = [torchvision.datasets.MNIST(scratch, train, download=True) for train in (True, False)]
            return {
                "x_train": parts[0].data.numpy(),
                "y_train": parts[0].targets.numpy(),
                "x_test": parts[1].data.numpy(),
                "y_test": parts[1].targets.numpy(),
            }

        return download("MNIST", self.root / "mnist.npz", fetch)
