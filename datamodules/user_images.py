"""Base of data modules of a user's own labelled images, whose number, shape and classes follow from the files."""

from abc import abstractmethod

import torch
from torch import Tensor

from datamodules.base import ImageDataModule, Split
from datamodules.files import Arrays
from datamodules.loader import Augmentation, seeded_generator
from datamodules.splits import check_amount, hold_out, number_of
from datamodules.transforms import RandomFlip

_CPU = torch.device("cpu")
_TEST_STREAM = 0x7E57


class UserImagesDataModule(ImageDataModule):
    """Base of data modules of a user's own images: parts that are not given are held out, stratified by class.

    A subclass defines `class_names()`, and `image_shape` and `name`, as attributes or properties, besides `read()`.
    `read()` calls `hold_out_test()` if the files have no test part; it returns x_val and y_val if they have a
    validation part.

    Args:
        root: Folder of the data.
        batch_size: Number of training images in a batch, on each device.
        val_size: Share (below 1) or number of the training images that are held out for validation, of each class in
            the same share. Not used if the data have a validation part.
        test_size: Share (below 1) or number of the images that are held out for the test, of each class in the same
            share and in the same way for every seed. Not used if the data have a test part.
        seed: Seed of the validation split, of the few-shot subset and of the order of the images. The run's own seed by
            default.
        labels_per_class: Number of training images per class for few-shot learning, drawn at random. All by default.
        on_device: Whether the data are kept on the training device. By default they are if they take less than half of
            its free memory.
        shift: Largest random shift of a training image along each axis, in pixels. 0 turns the augmentation off.
        flip: Whether training images are mirrored horizontally at random.
        predict_split: Split that `predict` runs over.
        eval_batch_size: Number of images in a batch of validation, test and predict. Four times `batch_size` by
            default.

    Raises:
        ValueError: An option has a value that no data set allows.
        DataError: From `prepare_data` and `setup`: the data are not available, or an option does not fit them.
    """

    used_after_reading = ImageDataModule.used_after_reading | {"seed", "flip"}

    def __init__(
        self,
        root: str,
        batch_size: int = 64,
        val_size: float = 0.1,
        test_size: float = 0.1,
        seed: int | None = None,
        labels_per_class: int | None = None,
        on_device: bool | None = None,
        shift: int = 0,
        flip: bool = False,
        predict_split: Split = "test",
        eval_batch_size: int | None = None,
    ) -> None:
        super().__init__(root, batch_size, 0, seed, labels_per_class, on_device, shift, predict_split, eval_batch_size)
        check_amount("data.val_size", val_size, may_be_none=True)
        check_amount("data.test_size", test_size)
        self.val_share = val_size
        self.test_size = test_size
        self.flip = flip

    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Returns the name of each class, in the order of the labels."""

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.class_names()

    @property
    def origin(self) -> str:
        """Where the images are from, for messages."""
        return str(self.root)

    def hold_out_test(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the positions of the images for training and for the test, the same for every seed."""
        number = number_of(self.test_size, len(labels), "data.test_size", self.origin, "the test")
        return hold_out(labels, number, seeded_generator(_TEST_STREAM))

    def with_test_part(self, arrays: Arrays) -> Arrays:
        """Returns arrays with x_test and y_test, which are held out of x_train and y_train if they are missing."""
        if "x_test" in arrays:
            return arrays
        held_out = dict(arrays)
        for part, index in zip(("train", "test"), self.hold_out_test(torch.from_numpy(arrays["y_train"])), strict=True):
            held_out |= {f"{kind}_{part}": arrays[f"{kind}_train"][index.numpy()] for kind in "xy"}
        return held_out

    def augmentation(self) -> Augmentation | None:
        shift, flip = super().augmentation(), RandomFlip() if self.flip else None
        if shift is None or flip is None:
            return shift or flip
        return lambda images, generator: shift(flip(images, generator), generator)

    def _hold_out_validation(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        generator = seeded_generator(self._seed)
        own = self._tensors(_CPU).get("y_val")
        if own is not None:
            self.val_size = len(own)
            return torch.randperm(len(labels), generator=generator), torch.arange(len(own))
        self.val_size = number_of(self.val_share, len(labels), "data.val_size", self.origin, "validation")
        train, val = hold_out(labels, self.val_size, generator)
        return train[torch.randperm(len(train), generator=generator)], val
