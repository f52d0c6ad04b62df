from pathlib import Path
from typing import ClassVar

import torchvision

from datamodules.base import ImageDataModule
from datamodules.files import Arrays, check_images, download, load_or_fetch


class MNISTDataModule(ImageDataModule):
    """MNIST: 60,000 training and 10,000 test images of handwritten digits, 1 x 28 x 28 (LeCun et al. 1998).

    Examples:
        >>> data = MNISTDataModule(batch_size=32)  # `data/mnist.npz` is read, or downloaded, by `setup`
        >>> data.image_shape, data.num_classes
        ((1, 28, 28), 10)
    """

    name = "mnist"
    image_shape = (1, 28, 28)
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")

    def read(self) -> Arrays:
        return load_or_fetch(self.root, self.name, self._fetch, lambda arrays: check_images(arrays, (28, 28), 10))

    def _fetch(self, scratch: Path) -> Arrays:
        """Reads torchvision's own folder under `root` if it is complete; otherwise downloads the data."""

        def fetch() -> Arrays:
            try:
                parts = [torchvision.datasets.MNIST(self.root, train) for train in (True, False)]
            except RuntimeError:  # missing or incomplete
                parts = [torchvision.datasets.MNIST(scratch, train, download=True) for train in (True, False)]
            return {
                "x_train": parts[0].data.numpy(),
                "y_train": parts[0].targets.numpy(),
                "x_test": parts[1].data.numpy(),
                "y_test": parts[1].targets.numpy(),
            }

        return download("MNIST", self.root / "mnist.npz", fetch)
