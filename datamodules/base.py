"""Base of all data modules: one copy of the data per process, splits, few-shot subsets and batch loaders."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from datamodules import cache
from datamodules.cache import Data
from datamodules.files import Arrays, DataError
from datamodules.images_on_disk import Images, ImagesOnDisk
from datamodules.loader import Augmentation, BatchLoader, BatchTransform, seeded_generator
from datamodules.mapped_files import lie_in_file
from datamodules.memory import available_memory
from datamodules.transforms import RandomShift

Split = Literal["train", "val", "test"]

_CPU = torch.device("cpu")
_TEST_SEED = 0x7E57


def run_seed() -> int:
    """Returns the seed that the run was started with (Lightning's `seed_everything`), or 0 outside a run."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


class ImageDataModule(LightningDataModule, ABC):
    """Base of data modules of labelled images, which are loaded once per process and cut into batches on the device.

    The images are uint8 and become float32 in [0, 1] in a batch (images, labels). A label is the number of a class, or
    a row of integers that begins with it; `label_columns` names the columns.

    Images are kept on the training device where they fit. What `read()` returns as `np.memmap` stays on disk if it
    does not fit into memory either; a thread then reads some batches ahead. Batches are the same wherever images are.

    A subclass defines `name`, `image_shape`, `classes` and `read()`. It also defines `batch_transform()` if its batches
    are computed from the stored images and differ from them, and `source_files()` if it reads other files than
    `<root>/<name>.npz`.

    What `read()` returns is kept by the process under a key of the class, of all arguments of its constructor and of
    the state of the source files, so that instances share data only if they would read the same.

    Args:
        root: Folder of the data file `<root>/<name>.npz`, which is made or downloaded if it does not exist.
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

    Raises:
        ValueError: An option has a value that no data set allows.
        DataError: From `prepare_data` and `setup`: the data are not available, or an option does not fit them.

    Examples:
        >>> class Squares(ImageDataModule):
        ...     name, image_shape, classes = "squares", (1, 8, 8), ("black", "white")
        ...     def read(self):
        ...         x, y = np.repeat(np.uint8([0, 255]), 64 * 5).reshape(10, 8, 8), np.arange(10) // 5
        ...         return {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
        >>> Squares(val_size=2).examples("test", 4)[0].shape
        torch.Size([4, 1, 8, 8])
    """

    name: str
    image_shape: tuple[int, int, int]
    classes: ClassVar[tuple[str, ...]]
    label_columns: ClassVar[tuple[str, ...]] = ("class",)
    classified_as: ClassVar[str | None] = None
    """Name of the data set whose evaluation classifier classifies each channel of an image separately. None: this data
    set's own classifier classifies the whole image."""
    used_after_reading: ClassVar[frozenset[str]] = frozenset(
        ("batch_size", "eval_batch_size", "val_size", "labels_per_class", "on_device", "shift", "predict_split")
    )
    """Arguments of the constructor that `read()` does not use. Instances that differ only in these share their data."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = cache.recorded(cls.__init__)  # type: ignore[method-assign]

    @cache.recorded
    def __init__(
        self,
        root: str = "data",
        batch_size: int = 128,
        val_size: int = 5000,
        seed: int | None = None,
        labels_per_class: int | None = None,
        on_device: bool | None = None,
        shift: int = 0,
        predict_split: Split = "test",
        eval_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        for option, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("val_size", val_size, 0),
            ("labels_per_class", labels_per_class, 1),
            ("shift", shift, 0),
        ):
            if value is not None and value < least:
                raise ValueError(f"data.{option} is {value}; it must be at least {least}")
        self.root = Path(root).expanduser()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or 4 * batch_size
        self.val_size = val_size
        self.seed = seed
        self.labels_per_class = labels_per_class
        self.on_device = on_device
        self.shift = shift
        self.predict_split: Split = predict_split
        self._index: dict[Split, Tensor] = {}
        self._key: cache.Key | None = None
        """Key of the data that this instance has read."""

    def __str__(self) -> str:
        return type(self).__name__  # that of Lightning fails

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def source_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that a model is given; `image_shape` is that of its output."""
        return self.image_shape

    @property
    def fingerprint(self) -> str:
        """Hash of the stored training images and their labels, before `batch_transform`.

        A checkpoint has that of the data that its model learned, and an evaluation classifier measures data of the same
        fingerprint only. Data sets whose batches are computed from the same stored images have the same fingerprint.

        Raises:
            DataError: The data are not available.
        """
        data = self._tensors(_CPU)
        return cache.fingerprint(self._read_key(), data)

    @abstractmethod
    def read(self) -> Arrays:
        """Returns the arrays x_train, y_train, x_test, y_test: images are uint8 N x H x W (x C), labels integers.

        If they have x_val and y_val too, these are the validation images. The result follows from the arguments of the
        constructor, but `used_after_reading`, and from `source_files()`.
        """

    def source_files(self) -> Iterable[Path]:
        """Returns the files that `read()` reads. Data are read again if one of them has changed."""
        return (self.root / f"{self.name}.npz",)

    def source_state(self) -> str:
        """Returns a hash of the state of `source_files()`."""
        return cache.state_of_files(self.source_files())

    def batch_transform(self, split: Split) -> BatchTransform | None:
        """Returns the function that computes the batches of this split from stored images; None: no change."""
        return None

    def prepare_data(self) -> None:
        self._tensors(_CPU)

    def setup(self, stage: str | None = None) -> None:
        if self._index:
            return
        labels = self._tensors(_CPU)["y_train"]
        train, val = self._hold_out_validation(labels)
        if self.labels_per_class is not None:
            train = self._few_shot(train, labels)
        self._index["train"] = train.sort().values
        self._index["val"] = val.sort().values

    def train_dataloader(self) -> BatchLoader:
        return self._loader("train")

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        return self._loader("val") if self.val_size else []

    def test_dataloader(self) -> BatchLoader:
        return self._loader("test")

    def predict_dataloader(self) -> BatchLoader:
        return self._loader(self.predict_split, shuffle=False)

    def examples(self, split: Split, n: int, seed: int = 0, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Returns `n` random images of a split with their labels, or all if it has fewer.

        Images and labels are those of the validation and test loaders, and lie on the device that keeps the data.

        Args:
            split: Split of the images.
            n: Number of images.
            seed: The choice depends on this number alone.
            part: Part of the `n` images to return, such as one process's share.
        """
        self.setup()
        images, labels, index = self._split(split)
        picked = index[self.example_positions(split, n, seed)[part].to(index.device)]
        chosen, transform = images[picked].float().div_(255), self.batch_transform(split)
        return (chosen, labels[picked]) if transform is None else transform(chosen, labels[picked], picked, 0)

    def example_positions(self, split: Split, n: int, seed: int = 0) -> Tensor:
        """Returns the positions of the images of `examples` among those of the split, in the order of its loader."""
        return torch.randperm(self.number_of_images(split), generator=seeded_generator(seed))[:n]

    def number_of_images(self, split: Split) -> int:
        """Returns the number of images of a split."""
        self.setup()
        return len(self._split(split)[2])

    def example_batches(
        self, split: Split, n: int, batch_size: int, part: slice = slice(None)
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields images and labels of `examples` in batches, for numbers that could take too much memory at once."""
        positions = range(min(n, self.number_of_images(split)))[part]
        for first in range(0, len(positions), batch_size):
            batch = positions[first : first + batch_size]
            yield self.examples(split, n, part=slice(batch.start, batch.stop, batch.step))

    @property
    def _seed(self) -> int:
        return run_seed() if self.seed is None else self.seed

    def _transform_seed(self, split: Split) -> int:
        """Seed of the random numbers of `batch_transform`. That of test images is the same in every run."""
        return _TEST_SEED if split == "test" else self._seed

    def _hold_out_validation(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the indices of training and validation images, each in random order."""
        if self.val_size >= len(labels):
            raise DataError(
                f"data.val_size is {self.val_size}, but {self.name} has {len(labels)} training images;"
                " give a smaller data.val_size"
            )
        order = torch.randperm(len(labels), generator=seeded_generator(self._seed))
        return order[self.val_size :], order[: self.val_size]

    def augmentation(self) -> Augmentation | None:
        """Returns the random change of training images, or None."""
        return RandomShift(self.shift) if self.shift else None

    def _few_shot(self, train: Tensor, labels: Tensor) -> Tensor:
        """Returns the first `labels_per_class` images of each class in `train`, which is in random order."""
        assert self.labels_per_class is not None
        kept = []
        for label, name in enumerate(self.classes):
            of_class = train[labels[train] == label]
            if len(of_class) < self.labels_per_class:
                raise DataError(
                    f"data.labels_per_class is {self.labels_per_class}, but {self.name} has {len(of_class)}"
                    f" training images of class {name}; give a smaller number or leave the option out"
                )
            kept.append(of_class[: self.labels_per_class])
        return torch.cat(kept)

    def _loader(self, split: Split, shuffle: bool | None = None) -> BatchLoader:
        images, labels, index = self._split(split)
        training = split == "train" if shuffle is None else shuffle
        trainer = self.trainer
        try:
            return BatchLoader(
                images,
                labels,
                index,
                batch_size=self.batch_size if training else self.eval_batch_size,
                shuffle=training,
                seed=self._seed,
                drop_last=training,
                rank=trainer.global_rank if trainer else 0,
                world_size=trainer.world_size if trainer else 1,
                device=trainer.strategy.root_device if trainer else None,
                augmentation=self.augmentation() if training else None,
                batch_transform=self.batch_transform(split),
                return_index=training and getattr(getattr(trainer, "lightning_module", None), "needs_index", False),
            )
        except ValueError as error:
            raise DataError(f"{self.name}, {split} images: {error}") from None

    def _split(self, split: Split) -> tuple[Images, Tensor, Tensor]:
        """Returns images, labels and the positions of this split's images, where the data are kept."""
        data = self._tensors(self._place())
        part = split if f"x_{split}" in data else "train"
        images, labels = data[f"x_{part}"], data[f"y_{part}"]
        whole = part != "train" and split not in self._index
        index = torch.arange(len(labels)) if whole else self._index[split]
        return images, labels, index.to(images.device)

    def _place(self) -> cache.Place:
        """Returns where batches are cut: the training device if `on_device` is true, or if it is None and the data fit.

        Else it is the CPU, or `memory` for data on disk that fit into memory.
        """
        device = self.trainer.strategy.root_device if self.trainer else _CPU
        if device != _CPU and (self.on_device or (self.on_device is None and self._fits(device))):
            return device
        on_disk = any(isinstance(of, ImagesOnDisk) for of in self._tensors(_CPU).values())
        return "memory" if on_disk and self._fits("memory") else _CPU

    def _fits(self, place: cache.Place) -> bool:
        """Whether the data are there already, or take less than half of the free memory there."""
        if cache.kept(self._read_key(), place) is not None:
            return True
        if place == "memory":
            free = available_memory() // (self.trainer.num_devices if self.trainer else 1)
        elif place.type == "cuda":
            free, _ = torch.cuda.mem_get_info(place)
        else:
            return True
        return sum(of.nbytes for of in self._tensors(_CPU).values()) < free / 2

    def _tensors(self, place: cache.Place) -> Data:
        """Returns the whole data set, shared by all runs of this process: images as uint8 N x C x H x W.

        Args:
            place: The CPU for data as they were read, in memory or on disk; otherwise where a copy of them is kept.
        """
        data = cache.kept(self._read_key(), place)
        if data is not None:
            return data
        if place == _CPU:
            arrays = self.read()
            self._check_arrays(arrays)
            data, self._key = _to_tensors(arrays), None  # reading may have written the file
        else:
            device = _CPU if place == "memory" else place
            data = {name: _on_device(of, device) for name, of in self._tensors(_CPU).items()}
        return cache.keep(self._read_key(), place, data)

    def _check_arrays(self, arrays: Any) -> None:
        """Checks what `read()` has returned, which may be that of somebody else's class.

        Raises:
            DataError: It is not what `read()` must return.
        """
        names = ("x_train", "y_train", "x_test", "y_test")
        found = [arrays.get(name) for name in names] if isinstance(arrays, Mapping) else []
        if not found or not all(isinstance(array, np.ndarray) for array in found):
            self._refuse(f"a dictionary of NumPy arrays {', '.join(names)}")
        for part in ("train", "test"):
            images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
            if images.dtype != np.uint8 or images.ndim not in (3, 4):
                self._refuse(f"x_{part} as uint8 of N x H x W (x C), not {_described(images)}")
            if labels.dtype.kind not in "iub" or len(labels) != len(images):
                self._refuse(f"y_{part} as integers of {len(images)}, one for each image, not {_described(labels)}")

    def _refuse(self, needed: str) -> NoReturn:
        raise DataError(f"{type(self).__name__}.read() must return {needed}")

    def _read_key(self) -> cache.Key:
        """Key of the data. It stays the same for an instance that has read its data, even if a file changes."""
        if self._key is None:
            read_by = cache.frozen(self._reading_arguments())
            self._key = (type(self), read_by, self.source_state())
        return self._key

    def _reading_arguments(self) -> dict[str, Any]:
        """The arguments of the constructor that `read` uses."""
        arguments = cache.constructor_arguments(self)
        return {name: value for name, value in arguments.items() if name not in self.used_after_reading}


def _described(array: np.ndarray) -> str:
    return f"{array.dtype} of {' x '.join(map(str, array.shape))}"


def _to_tensors(arrays: Arrays) -> Data:
    data: Data = {}
    for part in [name.removeprefix("x_") for name in arrays if name.startswith("x_")]:
        images = arrays[f"x_{part}"]
        images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        on_disk = lie_in_file(images)
        data[f"x_{part}"] = ImagesOnDisk(images) if on_disk else torch.from_numpy(np.ascontiguousarray(images))
        data[f"y_{part}"] = torch.from_numpy(arrays[f"y_{part}"].astype(np.int64))
    return data


def _on_device(images: Images, device: torch.device) -> Tensor:
    return images.copy_to(device) if isinstance(images, ImagesOnDisk) else images.to(device)
