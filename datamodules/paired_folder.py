import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from datamodules.base import Split
from datamodules.files import Arrays, DataError
from datamodules.image_files import Size, find_images, read_into
from datamodules.loader import seeded_generator
from datamodules.noise import uniform
from datamodules.pairs import Paint, Pairs, PairsDataModule

Layout = Literal["paired", "unpaired"]
ARRANGEMENTS = (
    (("train/A", "train/B"), ("test/A", "test/B")),
    (("trainA", "trainB"), ("testA", "testB")),
    (("A", "B"), None),
)
"""Where images to train on and test images lie; the first one is taken whose training folders are there."""
_SHARES = 0xE5F6


class Sides(NamedTuple):
    """The files of sources and of targets."""

    a: list[Path]
    b: list[Path]


class Parts(NamedTuple):
    train: Sides
    test: Sides


class PairedFolderDataModule(PairsDataModule):
    """A folder of images of two kinds: `A` holds sources, `B` targets.

    The folder has `A` and `B`; or `train/A`, `train/B`, `test/A`, `test/B`; or `trainA`, `trainB`, `testA`, `testB`.
    Where there are no test folders a share of the images is set aside, the same for every seed. Formats: PNG, JPEG,
    WebP, TIFF and whatever else Pillow reads. All images are read once into memory, 3 bytes a pixel; nothing is
    written.

    `paired`: a source and a target of one file name, but for the suffix, show the same. `unpaired`: A and B may have
    different numbers of images and no names in common. An epoch goes once over A, each image with another one of B; B
    comes in a new order in each epoch, and again when it has fewer. Validation and test go once over A too, each image
    always with the same one of B.

    Args:
        folder: where the images lie.
        layout: whether what lies in A and B belongs together.
        size: height and width in pixels, or one number for both; images are resized and cut in the middle to fit.
        grey: one channel in place of three.
        flip: mirror images at random, left to right, in training; both images of a pair alike.
        test_size: what is set aside for the test: a share of the images below 1, or a number; of A and of B each.
            Without meaning where there are test folders.
        val_size: the same for validation, of the images to train on; 0 for none.
        batch_size: pairs in a training batch, on each device.
        seed: draws the validation images and the order; the run's own seed by default.
        on_device: keep the data on the training device; by default when they take less than half its free memory.
        predict_split: what `predict` runs over.
        eval_batch_size: images in a batch of validation, test and predict; four times batch_size by default.

    Raises:
        ValueError: an option that no folder could meet.
        DataError: from `prepare_data` and `setup`: folders or images are missing, too few, without a partner or cannot
            be read.
    """

    name = "image_folder"
    classes: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(
        self,
        folder: str,
        layout: Layout = "unpaired",
        size: int | tuple[int, int] = 64,
        grey: bool = False,
        flip: bool = False,
        test_size: float = 0.1,
        val_size: float = 0.1,
        batch_size: int = 16,
        seed: int | None = None,
        on_device: bool | None = None,
        predict_split: Split = "test",
        eval_batch_size: int | None = None,
    ) -> None:
        paired = layout == "paired"
        super().__init__(folder, batch_size, paired, 0, seed, on_device, predict_split, eval_batch_size)
        self._size: Size = (size, size) if isinstance(size, int) else (size[0], size[1])
        if layout not in get_args(Layout):
            raise ValueError(f"data.layout is {layout}; it is one of {', '.join(get_args(Layout))}")
        if min(self._size) < 1:
            raise ValueError(f"data.size is {size}; it must be at least 1")
        for option, share, fits in (("test_size", test_size, test_size > 0), ("val_size", val_size, val_size >= 0)):
            if not fits or (share > 1 and share % 1):
                raise ValueError(f"data.{option} is {share}; it is a share below 1 or a whole number of images")
        self.image_shape = (1 if grey else 3, *self._size)
        self.aligned = paired
        self.grey = grey
        self.flip = flip
        self.test_size = test_size
        self.val_share = val_size

    def read(self) -> Arrays:
        """The images of both kinds: a pair as one of twice the channels, or A's followed by B's, labelled 0 and 1."""
        arrays: Arrays = {}
        for part, (a, b) in zip(Parts._fields, self._parts, strict=True):
            channels, number = self.image_shape[0], len(a)
            if self.paired:
                images = np.empty((number, *self._size, 2 * channels), np.uint8)
                of_a, of_b = images[..., :channels], images[..., channels:]
            else:
                images = np.empty((number + len(b), *self._size, channels), np.uint8)
                of_a, of_b = images[:number], images[number:]
            read_into([*zip(a, of_a, strict=True), *zip(b, of_b, strict=True)], self.grey)
            arrays[f"x_{part}"] = images
            arrays[f"y_{part}"] = np.arange(len(images)) >= number
        return arrays

    def setup(self, stage: str | None = None) -> None:
        if self._index:
            return
        train, test = self._parts
        counts = [_count(self.val_share, files, "val_size", "validation") for files in train]
        self.val_size = counts[0]
        if self.paired:
            super().setup(stage)
            return
        a, b = (
            torch.randperm(len(files), generator=seeded_generator(self._seed, _SHARES + side))
            for side, files in enumerate(train)
        )
        b += len(train.a)
        self._index = {
            "train": a[counts[0] :].sort().values,
            "val": a[: counts[0]].sort().values,
            "test": torch.arange(len(test.a)),
        }
        self._targets = {
            "train": b[counts[1] :].sort().values,
            "val": b[: counts[1]].sort().values,
            "test": len(test.a) + torch.arange(len(test.b)),
        }

    def versions(self, split: Split) -> tuple[Paint, Paint]:
        channels, seed = self.image_shape[0], self._render_seed(split)
        flips = self.flip and split == "train"

        def side(first: int) -> Paint:
            def cut(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Tensor:
                images = images[:, first : first + channels]
                return _flipped(images, seed, epoch, index) if flips else images

            return cut

        return side(0), side(channels if self.paired else 0)

    def pairs(self, split: Split, n: int, seed: int = 0, part: slice = slice(None)) -> Pairs:
        return super().pairs(split, n, seed, part)._replace(labels=None)

    @cached_property
    def _parts(self) -> Parts:
        """The files of training and test, as they are when they are first asked for."""
        folder = self.root
        if not os.path.isdir(folder):
            raise DataError(f"{folder} is no folder; give one that has images in A and B with --data.folder")
        for names, test_names in ARRANGEMENTS:
            there = [os.path.isdir(folder / name) for name in names]
            if not any(there):
                continue
            if not all(there):
                have, lack = names if there[0] else names[::-1]
                raise DataError(f"{folder} has {have} but no {lack}; put the images of the other kind there")
            sides = self._sides(names)
            if test_names is None or not any(os.path.isdir(folder / name) for name in test_names):
                return self._set_aside(sides)
            return Parts(sides, self._sides(test_names))
        raise DataError(
            f"{folder} has no A and B; put images there, or in train/A and train/B, or in trainA and trainB"
        )

    def _sides(self, names: Sequence[str]) -> Sides:
        sides = Sides(*(find_images(self.root / name) for name in names))
        if self.paired:
            _check_partners(sides)
        return sides

    def _set_aside(self, sides: Sides) -> Parts:
        """Divides the images into those of training and test, drawn with one seed for all."""
        train, test = [], []
        for files in sides:
            count = _count(self.test_size, files, "test_size", "the test")
            order = torch.randperm(len(files), generator=seeded_generator(self._render_seed("test"))).tolist()
            test.append([files[k] for k in sorted(order[:count])])
            train.append([files[k] for k in sorted(order[count:])])
        return Parts(Sides(*train), Sides(*test))

    @cached_property
    def _stamp(self) -> str:
        """A digest of what is read: every file's path, size and time of change, and the part that it belongs to."""
        sides = [files for part in self._parts for files in part]
        digest = hashlib.sha256(repr([len(files) for files in sides]).encode())
        for path in (path for files in sides for path in files):
            stat = path.stat()
            digest.update(os.fsencode(path.absolute()) + f"\0{stat.st_mtime_ns}\0{stat.st_size}\0".encode())
        return digest.hexdigest()

    def _identity(self) -> tuple[object, ...]:
        return (type(self).read, self.image_shape, self.paired, self._stamp)


def _check_partners(sides: Sides) -> None:
    """Raises DataError unless each file of one side has exactly one of its stem on the other; sorts them alike."""
    for files in sides:
        twice = [stem for stem, count in Counter(path.stem for path in files).items() if count > 1]
        if twice:
            raise DataError(f"{files[0].parent} has more than one image named {_some(twice)}; keep one of each name")
    for files, others in ((sides.a, sides.b), (sides.b, sides.a)):
        alone = sorted({path.stem for path in files} - {path.stem for path in others})
        if alone:
            raise DataError(
                f"{len(alone)} of {len(files)} images in {files[0].parent} have no partner of the same name in"
                f" {others[0].parent}: {_some(alone)}; add or take away, or give --data.layout unpaired"
            )
    for files in sides:
        files.sort(key=lambda path: path.stem)


def _count(size: float, files: Sequence[Path], option: str, purpose: str) -> int:
    """How many of the files a size of images to set aside means: a share of at least one, or a number."""
    count = max(1, round(size * len(files))) if 0 < size < 1 else int(size)
    if count >= len(files):
        raise DataError(
            f"{files[0].parent} has too few images: of {len(files)} {count} would be set aside for {purpose} and none"
            f" left to train on; add images or give another --data.{option}"
        )
    return count


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _flipped(images: Tensor, seed: int, epoch: int, index: Tensor) -> Tensor:
    """Half of the images mirrored, left to right; which ones follows from (seed, epoch, image)."""
    mirrored = uniform(seed, epoch, index, 1) < 0.5  # (N, 1)
    return torch.where(mirrored[:, :, None, None], images.flip(3), images)
