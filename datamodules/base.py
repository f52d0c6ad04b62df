"""What every data module shares: one copy of the data in the process, splits, few-shot subsets, batch loaders."""

import os
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor

from datamodules.files import Arrays, DataError
from datamodules.loader import BatchLoader, Render, seeded_generator
from datamodules.transforms import RandomShift

Split = Literal["train", "val", "test"]
Tensors = dict[str, Tensor]

_IN_MEMORY: dict[tuple[object, ...], Tensors] = {}
_MOST_IN_MEMORY = 4
_TEST_SEED = 0x7E57


def run_seed() -> int:
    """The seed that the run was started with (Lightning's `seed_everything`), or 0 outside a run."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


class ImageDataModule(LightningDataModule):
    """Labelled images as uint8 tensors, loaded once in a process and cut into batches on the device.

    A subclass gives `name`, `image_shape`, `classes` and `read()`, and `render` where batches are not simply what is
    stored. A label is the number of a class, or a row of numbers of which the class is the first; `label_columns`
    names them.

    Args:
        root: folder of the data files; `<root>/<name>.npz` is used when it is there.
        batch_size: images in a training batch, on each device.
        eval_batch_size: images in a batch of validation, test and predict; four times batch_size by default.
        val_size: training images set aside for validation.
        seed: draws the validation split, the few-shot subset and the order; the run's own seed by default.
        labels_per_class: few-shot learning: train on this many images of each class, drawn at random.
        on_device: keep the data on the training device; by default when they take less than half its free memory.
        shift: move each training image at random by up to this many pixels along each axis.
        predict_split: what `predict` runs over.

    Raises:
        ValueError: an option that no data set could meet.
        DataError: from `prepare_data` and `setup`, for data that cannot be had, or an option that does not fit them.
    """

    name: str
    image_shape: tuple[int, int, int]
    classes: ClassVar[tuple[str, ...]]
    label_columns: ClassVar[tuple[str, ...]] = ("class",)
    classified_as: ClassVar[str | None] = None
    """Each channel of an image is read by the classifier of the data set of this name; None: the image as a whole is,
    by the classifier of this data set."""

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

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def source_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of the images that a model gets; `image_shape` is that of the images it makes."""
        return self.image_shape

    @abstractmethod
    def read(self) -> Arrays:
        """The arrays x_train, y_train, x_test, y_test as stored: uint8 N x H x W (x C), and whole-number labels."""

    def render(self, split: Split) -> Render | None:
        """What makes batches of this split out of stored images, in place of the images themselves."""
        return None

    def prepare_data(self) -> None:
        self._tensors(torch.device("cpu"))

    def setup(self, stage: str | None = None) -> None:
        if self._index:
            return
        labels = self._tensors(torch.device("cpu"))["y_train"]
        if self.val_size >= len(labels):
            raise DataError(f"data.val_size is {self.val_size}, but {self.name} has {len(labels)} training images")
        order = torch.randperm(len(labels), generator=seeded_generator(self._seed))
        train = order[self.val_size :]
        if self.labels_per_class is not None:
            train = self._few(train, labels)
        self._index["train"] = train.sort().values
        self._index["val"] = order[: self.val_size].sort().values

    def train_dataloader(self) -> BatchLoader:
        return self._loader("train")

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        return self._loader("val") if self.val_size else []

    def test_dataloader(self) -> BatchLoader:
        return self._loader("test")

    def predict_dataloader(self) -> BatchLoader:
        return self._loader(self.predict_split, shuffle=False)

    def examples(self, split: Split, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """`n` random (images, labels) of a split, or all when it has fewer; the same ones for the same seed.

        Returns:
            Images and labels as the loaders of validation and test would give them, on the device that keeps the data.
        """
        self.setup()
        images, labels, index = self._split(split)
        picked = index[torch.randperm(len(index), generator=seeded_generator(seed))[:n].to(index.device)]
        chosen, render = images[picked].float().div_(255), self.render(split)
        return (chosen, labels[picked]) if render is None else render(chosen, labels[picked], picked, 0)

    @property
    def _seed(self) -> int:
        return run_seed() if self.seed is None else self.seed

    def _render_seed(self, split: Split) -> int:
        """The seed of what `render` draws; that of test images is the same for every run."""
        return _TEST_SEED if split == "test" else self._seed

    def _few(self, train: Tensor, labels: Tensor) -> Tensor:
        """The first `labels_per_class` images of each class in `train`, which is in random order."""
        assert self.labels_per_class is not None
        kept = []
        for label, name in enumerate(self.classes):
            of_class = train[labels[train] == label]
            if len(of_class) < self.labels_per_class:
                raise DataError(
                    f"data.labels_per_class is {self.labels_per_class}, but {self.name} has {len(of_class)}"
                    f" training images of class {name}"
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
                transform=RandomShift(self.shift) if training and self.shift else None,
                render=self.render(split),
                indexed=training and getattr(getattr(trainer, "lightning_module", None), "needs_index", False),
            )
        except ValueError as error:
            raise DataError(f"{self.name}, {split} images: {error}") from None

    def _split(self, split: Split) -> tuple[Tensor, Tensor, Tensor]:
        """Images, labels and the index of this split's among them, on the device that keeps the data."""
        part = "test" if split == "test" else "train"
        tensors = self._tensors(self._data_device())
        images, labels = tensors[f"x_{part}"], tensors[f"y_{part}"]
        whole = split == "test" and split not in self._index
        index = torch.arange(len(labels)) if whole else self._index[split]
        return images, labels, index.to(images.device)

    def _data_device(self) -> torch.device:
        """The training device if `on_device` says so or, unasked, if the data fit; else the CPU."""
        cpu = torch.device("cpu")
        device = self.trainer.strategy.root_device if self.trainer else cpu
        if self.on_device is not None:
            return device if self.on_device else cpu
        if device.type != "cuda" or (*self._identity(), device) in _IN_MEMORY:
            return device
        free, _ = torch.cuda.mem_get_info(device)
        size = sum(tensor.nbytes for tensor in self._tensors(cpu).values())
        return device if size < free / 2 else cpu

    def _identity(self) -> tuple[object, ...]:
        """Changes when the data file does, so that a long-lived process never serves a replaced file's data."""
        path = self.root / f"{self.name}.npz"
        try:
            stat = path.stat()
        except OSError:
            stat = None  # reading it will say what is wrong
        return (type(self).read, str(path.absolute()), stat and (stat.st_mtime_ns, stat.st_size))

    def _tensors(self, device: torch.device) -> Tensors:
        """The whole data set on `device`, shared by all runs of this process: images uint8 N x C x H x W."""
        key = (*self._identity(), device)
        if key not in _IN_MEMORY:
            if device.type == "cpu":
                tensors = _to_tensors(self.read())
                key = (*self._identity(), device)  # reading may have written the file
            else:
                tensors = {name: tensor.to(device) for name, tensor in self._tensors(torch.device("cpu")).items()}
            while len(_IN_MEMORY) >= _MOST_IN_MEMORY:
                _IN_MEMORY.pop(next(iter(_IN_MEMORY)))
            _IN_MEMORY[key] = tensors
        return _IN_MEMORY[key]


def _to_tensors(arrays: Arrays) -> Tensors:
    tensors = {}
    for part in ("train", "test"):
        images = arrays[f"x_{part}"]
        images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        tensors[f"x_{part}"] = torch.from_numpy(np.ascontiguousarray(images))
        tensors[f"y_{part}"] = torch.from_numpy(arrays[f"y_{part}"].astype(np.int64))
    return tensors
