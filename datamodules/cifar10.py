from pathlib import Path
from typing import ClassVar

import numpy as np
import torchvision

from datamodules.base import ImageDataModule
from datamodules.files import Arrays, check_images, download, load_or_fetch


class CIFAR10DataModule(ImageDataModule):
    """CIFAR-10: 50,000 training and 10,000 test photographs of ten classes, 3 x 32 x 32 (Krizhevsky 2009).

    Examples:
        >>> data = CIFAR10DataModule(batch_size=32)  # `data/cifar10.npz` is read, or downloaded, by `setup`
        >>> data.image_shape, data.classes[:3]
        ((3, 32, 32), ('airplane', 'automobile', 'bird'))
    """

    name = "cifar10"
    image_shape = (3, 32, 32)
    classes: ClassVar[tuple[str, ...]] = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip

    def read(self) -> Arrays:
        return load_or_fetch(self.root, self.name, self._fetch, lambda arrays: check_images(arrays, (32, 32, 3), 10))

    def _fetch(self, scratch: Path) -> Arrays:
        """Reads torchvision's own folder under `root` if it is complete; otherwise downloads the data."""

        def fetch() -> Arrays:
            try:
                parts = [torchvision.datasets.CIFAR10(self.root, train) for train in (True, False)]
            except RuntimeError:  # missing or incomplete
                parts = [torchvision.datasets.CIFAR10(scratch, train, download=True) for train in (True, False)]
            return {
                "x_train": parts[0].data,
                "y_train": np.asarray(parts[0].targets),
                "x_test": parts[1].data,
                "y_test": np.asarray(parts[1].targets),
            }

        return download("CIFAR-10", self.root / "cifar10.npz", fetch)
