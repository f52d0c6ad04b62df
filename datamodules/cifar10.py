from pathlib import Path
from typing import ClassVar

import numpy as np
import torchvision

from datamodules.base import ImageDataModule
from datamodules.files import Arrays, check_images, download, load_or_fetch


class CIFAR10DataModule(ImageDataModule):
    """50,000 training and 10,000 test photographs of ten classes, 3 x 32 x 32 (Krizhevsky 2009)."""

    name = "cifar10"
    image_shape = (3, 32, 32)
    classes: ClassVar[tuple[str, ...]] = (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip

    def read(self) -> Arrays:
        return load_or_fetch(self.root, self.name, self._fetch, lambda arrays: check_images(arrays, (32, 32, 3), 10))

    def _fetch(self, scratch: Path) -> Arrays:
        """From torchvision's own folder under root where that is there, else by download."""
        local = (self.root / "cifar-10-batches-py").is_dir()
        folder = self.root if local else scratch

        def fetch() -> Arrays:
            train, test = (torchvision.datasets.CIFAR10(folder, train, download=not local) for train in (True, False))
            return {
                "x_train": train.data,
                "y_train": np.asarray(train.targets),
                "x_test": test.data,
                "y_test": np.asarray(test.targets),
            }

        return download("CIFAR-10", self.root / "cifar10.npz", fetch)
