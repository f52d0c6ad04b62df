from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from datamodules.base import ImageDataModule, Split
from datamodules.files import Arrays


class DigitsDataModule(ImageDataModule):
    """scikit-learn's 1,797 handwritten digits, brought from 8 x 8 to 1 x 28 x 28; they need no download.

    The images are enlarged three times (bicubic) inside a margin of two black pixels. 1,437 are for training and
    360, drawn once with every digit in proportion, for testing. The same writers are in both parts.
    Source: Alpaydin and Kaynak 1998, UCI Optical Recognition of Handwritten Digits, as shipped with scikit-learn.
    """

    name = "digits"
    image_shape = (1, 28, 28)
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 64,
        val_size: int = 200,
        seed: int | None = None,
        labels_per_class: int | None = None,
        on_device: bool | None = None,
        shift: int = 0,
        predict_split: Split = "test",
        eval_batch_size: int | None = None,
    ) -> None:
        super().__init__(
            root, batch_size, val_size, seed, labels_per_class, on_device, shift, predict_split, eval_batch_size
        )

    def read(self) -> Arrays:
        from sklearn.model_selection import train_test_split  # a second of imports that no other data set needs

        images, labels = digits()
        x_train, x_test, y_train, y_test = train_test_split(
            images, labels, test_size=360, random_state=0, stratify=labels
        )
        return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def digits() -> tuple[np.ndarray, np.ndarray]:
    """All of scikit-learn's digits, uint8 1,797 x 28 x 28, and their labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return _enlarge(images.reshape(-1, 8, 8) / 16.0), labels


def _enlarge(images: np.ndarray) -> np.ndarray:
    """N x 8 x 8 in [0, 1] -> uint8 N x 28 x 28."""
    large = F.interpolate(torch.from_numpy(images)[:, None], scale_factor=3, mode="bicubic", align_corners=False)
    return F.pad(large.clamp(0, 1), (2, 2, 2, 2)).mul(255).round().to(torch.uint8)[:, 0].numpy()
