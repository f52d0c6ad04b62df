from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from datamodules.base import ImageDataModule, Split
from datamodules.files import Arrays


class DigitsDataModule(ImageDataModule):
    """scikit-learn's 1,797 handwritten digits, enlarged from 8 x 8 to 1 x 28 x 28 pixels; no download is needed.

    The images are enlarged three times (bicubic) and padded with two black pixels on each side. 1,437 images are for
    training and 360 for testing. This split is fixed and stratified: both parts have each class in the same share. They
    have the same writers.
    Source: Alpaydin and Kaynak 1998, UCI Optical Recognition of Handwritten Digits, as shipped with scikit-learn.

    Args:
        root: Not used, as the images come with scikit-learn.
        batch_size: Number of training images in a batch, on each device.
        val_size: Number of training images that are held out for validation.
        seed: Seed of the validation split, of the few-shot subset and of the order of the images. The run's own seed by
            default.
        labels_per_class: Number of training images per class for few-shot learning, drawn at random. All by default.
        on_device: Whether the data are kept on the training device. By default they are if they take less than half of
            its free memory.
        shift: Largest random shift of a training image along each axis, in pixels. 0 turns the augmentation off.
        predict_split: Split that `predict` runs over.
        eval_batch_size: Number of images in a batch of validation, test and predict. Four times `batch_size` by
            default.

    Examples:
        >>> data = DigitsDataModule(batch_size=32)
        >>> data.setup()
        >>> images, labels = next(iter(data.train_dataloader()))
        >>> images.shape, labels.shape
        (torch.Size([32, 1, 28, 28]), torch.Size([32]))
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
        from sklearn.model_selection import train_test_split  # a slow import that only this data set needs

        images, labels = digits()
        x_train, x_test, y_train, y_test = train_test_split(
            images, labels, test_size=360, random_state=0, stratify=labels
        )
        return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns all of scikit-learn's digits, uint8 1,797 x 28 x 28, and their labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return _enlarge(images.reshape(-1, 8, 8) / 16.0), labels


def _enlarge(images: np.ndarray) -> np.ndarray:
    """Enlarges images: N x 8 x 8 in [0, 1] -> uint8 N x 28 x 28."""
    large = F.interpolate(torch.from_numpy(images)[:, None], scale_factor=3, mode="bicubic", align_corners=False)
    return F.pad(large.clamp(0, 1), (2, 2, 2, 2)).mul(255).round().to(torch.uint8)[:, 0].numpy()
