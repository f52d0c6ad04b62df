from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from datamodules.base import Split
from datamodules.counter_rng import uniform
from datamodules.files import Arrays, DataError
from datamodules.image_files import MAX_PIXELS, check_memory, check_size, find_images, is_folder
from datamodules.image_reader import ImageReader, ValueRange
from datamodules.loader import seeded_generator
from datamodules.pairs import ImageTransform, Pairs, PairsDataModule
from datamodules.splits import check_amount, number_of

Layout = Literal["paired", "unpaired", "side_by_side"]
Direction = Literal["ab", "ba"]
FOLDER_LAYOUTS = (
    (("train/A", "train/B"), ("test/A", "test/B")),
    (("trainA", "trainB"), ("testA", "testB")),
    (("A", "B"), None),
)
"""Training and test folders. The first layout is used whose training folders exist."""
TEST_FOLDERS = ("test", "val")
"""Test folders beside `train` of files side by side. The first one is used that exists."""
_SPLIT_STREAM = 0xE5F6
"""Random stream of the validation split, separate from the other draws of one seed."""


class DomainFiles(NamedTuple):
    """Image files of the sources (a) and of the targets (b); the same files if each of them has both."""

    a: list[Path]
    b: list[Path]


class SplitFiles(NamedTuple):
    """Image files of training and test."""

    train: DomainFiles
    test: DomainFiles


class PairedFolderDataModule(PairsDataModule):
    """A folder of your own images of two domains A and B, for image-to-image translation.

    The folder has sub-folders `A` and `B`; or `train/A`, `train/B`, `test/A`, `test/B`; or `trainA`, `trainB`, `testA`,
    `testB`. If there are no test folders, a part of the images is held out. Formats are PNG, JPEG, WebP, TIFF and
    others that Pillow reads. All images are read once into memory, 3 bytes per pixel; nothing is written.

    In the layout `paired`, images of A and B with the same file name, apart from the suffix, form a pair. In the layout
    `unpaired`, A and B may have different numbers of images and different names: an epoch goes once over A, and each
    image comes with another image of B; B has a new order in each epoch and is repeated if it has fewer images.
    Validation and test go once over A too, with the same image of B each time.

    In the layout `side_by_side`, each file is a pair: its left half is the image of A and its right half that of B, as
    in the data sets of Isola et al. 2016 (pix2pix), arXiv 1611.07004. The files are in `train` and `test`, or `val` if
    there is no `test`; or in the folder itself, and a part of them is held out.

    Args:
        folder: Folder with the images of both domains.
        layout: `paired` if A and B have images of the same names, which belong together; `side_by_side` if each file
            has a pair of images; otherwise `unpaired`.
        size: Height and width in pixels, or one number for both. Images are resized and cropped at the centre.
        grayscale: Whether images are read with one channel instead of three.
        flip: Whether training images are mirrored horizontally at random; both images of a pair are mirrored together.
        test_size: Share (below 1) or number of the images of A and of B that are held out for the test. Not used if
            there are test folders.
        val_size: Share (below 1) or number of the training images of A and of B that are held out for validation.
        batch_size: Number of (source, target) pairs in a training batch, on each device.
        seed: Seed of the validation split and of the order. The run's own seed by default.
        on_device: Whether the data are kept on the training device. By default they are if they take less than half of
            its free memory.
        predict_split: Split that `predict` runs over.
        eval_batch_size: Number of pairs in a batch of validation, test and predict. Four times `batch_size` by default.
        direction: `ab` if A has the sources and B the targets, `ba` if it is the other way round.
        value_range: Values of black and white in images of more than 8 bits, such as `[0, 4095]` for 12 bits. By
            default the range of the file type: 0 to 65535 for 16 bits, 0 to 1 for floats.
        max_pixels: Largest number of pixels of an image file; larger ones are refused before they are decoded.

    Raises:
        ValueError: An option has a value that no folder allows.
        DataError: From `prepare_data` and `setup`: folders or images are missing, too few, without a partner or not
            readable.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for k in range(8):
        ...     (folder / "AB"[k % 2]).mkdir(exist_ok=True)
        ...     Image.new("RGB", (20, 20)).save(folder / "AB"[k % 2] / f"{k}.png")
        >>> source, target = PairedFolderDataModule(str(folder), size=16).examples("train", 2)
        >>> source.shape, target.shape
        (torch.Size([2, 3, 16, 16]), torch.Size([2, 3, 16, 16]))
    """

    name = "paired_folder"
    classes: ClassVar[tuple[str, ...]] = ("image",)
    used_after_reading = PairsDataModule.used_after_reading | {"seed", "flip"}

    def __init__(
        self,
        folder: str,
        layout: Layout = "unpaired",
        size: int | tuple[int, int] = 64,
        grayscale: bool = False,
        flip: bool = False,
        test_size: float = 0.1,
        val_size: float = 0.1,
        batch_size: int = 16,
        seed: int | None = None,
        on_device: bool | None = None,
        predict_split: Split = "test",
        eval_batch_size: int | None = None,
        direction: Direction = "ab",
        value_range: ValueRange | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        paired = layout != "unpaired"
        super().__init__(folder, batch_size, paired, 0, seed, on_device, predict_split, eval_batch_size)
        for choice, value, choices in (("layout", layout, Layout), ("direction", direction, Direction)):
            if value not in get_args(choices):
                raise ValueError(f"data.{choice} is {value}; it is one of {', '.join(get_args(choices))}")
        self._reader = ImageReader(grayscale, value_range, max_pixels)
        self._size = check_size(size, max_pixels)
        check_amount("data.test_size", test_size)
        check_amount("data.val_size", val_size, may_be_none=True)
        self.image_shape = (1 if grayscale else 3, *self._size)
        self.aligned = paired
        self.layout = layout
        self.direction = direction
        self.flip = flip
        self.test_size = test_size
        self.val_share = val_size

    def read(self) -> Arrays:
        """Returns pairs as images of twice the channels, or sources (label 0) followed by targets (label 1)."""
        arrays: Arrays = {}
        check_memory(sum(len(files) for domains in self._split_files for files in domains), self.image_shape)
        for split, (a, b) in zip(SplitFiles._fields, self._split_files, strict=True):
            channels, number = self.image_shape[0], len(a)
            if self.paired:
                images = np.empty((number, *self._size, 2 * channels), np.uint8)
                images_a, images_b = images[..., :channels], images[..., channels:]
            else:
                images = np.empty((number + len(b), *self._size, channels), np.uint8)
                images_a, images_b = images[:number], images[number:]
            if self.layout == "side_by_side":
                halves = (images_a, images_b) if self.direction == "ab" else (images_b, images_a)
                self._reader.read_into([(a, halves)])
            else:
                self._reader.read_into([(a, images_a), (b, images_b)])
            arrays[f"x_{split}"] = images
            arrays[f"y_{split}"] = np.arange(len(images)) >= number
        return arrays

    def setup(self, stage: str | None = None) -> None:
        if self._index:
            return
        train, test = self._split_files
        counts = [
            number_of(self.val_share, len(files), "data.val_size", files[0].parent, "validation") for files in train
        ]
        self.val_size = counts[0]
        if self.paired:
            super().setup(stage)
            return
        a, b = (
            torch.randperm(len(files), generator=seeded_generator(self._seed, _SPLIT_STREAM + domain))
            for domain, files in enumerate(train)
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

    def domain_transforms(self, split: Split) -> tuple[ImageTransform, ImageTransform]:
        channels, seed = self.image_shape[0], self._transform_seed(split)
        flips = self.flip and split == "train"

        def domain(first: int) -> ImageTransform:
            def channels_of_domain(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Tensor:
                images = images[:, first : first + channels]
                return _flipped(images, seed, epoch, index) if flips else images

            return channels_of_domain

        return domain(0), domain(channels if self.paired else 0)

    def pairs(self, split: Split, n: int, seed: int = 0, part: slice = slice(None)) -> Pairs:
        return super().pairs(split, n, seed, part)._replace(labels=None)

    @cached_property
    def _split_files(self) -> SplitFiles:
        """Image files of training and test, listed when they are first used."""
        folder = self.root
        if not is_folder(folder):
            raise DataError(f"{folder} is not a folder; give one that has images in A and B with --data.folder")
        if self.layout == "side_by_side":
            return self._side_by_side_files()
        for names, test_names in FOLDER_LAYOUTS:
            exist = [is_folder(folder / name) for name in names]
            if not any(exist):
                continue
            if not all(exist):
                present, missing = names if exist[0] else names[::-1]
                raise DataError(f"{folder} has {present} but no {missing}; put the images of the other domain there")
            domains = self._domain_files(names)
            if test_names is None or not any(is_folder(folder / name) for name in test_names):
                return self._hold_out_test(domains)
            return SplitFiles(domains, self._domain_files(test_names))
        raise DataError(
            f"{folder} has no A and B; put images there, or in train/A and train/B, or in trainA and trainB"
        )

    def _domain_files(self, names: Sequence[str]) -> DomainFiles:
        a, b = (find_images(self.root / name) for name in names)
        domains = DomainFiles(a, b) if self.direction == "ab" else DomainFiles(b, a)
        if self.paired:
            _match_names(domains)
        return domains

    def _side_by_side_files(self) -> SplitFiles:
        """Image files of training and test, each of which has a source and a target."""
        inside = is_folder(self.root / "train")
        train = find_images(self.root / "train" if inside else self.root)
        test_folder = next((self.root / name for name in TEST_FOLDERS if inside and is_folder(self.root / name)), None)
        if test_folder is None:
            return self._hold_out_test(DomainFiles(train, train))
        test = find_images(test_folder)
        return SplitFiles(DomainFiles(train, train), DomainFiles(test, test))

    def _hold_out_test(self, domains: DomainFiles) -> SplitFiles:
        """Splits the images into training and test images, in the same way for every seed."""
        train, test = [], []
        for files in domains:
            count = number_of(self.test_size, len(files), "data.test_size", files[0].parent, "the test")
            order = torch.randperm(len(files), generator=seeded_generator(self._transform_seed("test"))).tolist()
            test.append([files[k] for k in sorted(order[:count])])
            train.append([files[k] for k in sorted(order[count:])])
        return SplitFiles(DomainFiles(*train), DomainFiles(*test))

    def source_files(self) -> list[Path]:
        """Returns the files of all splits, whose order tells which split each file is in."""
        return [path for split in self._split_files for files in split for path in files]


def _match_names(domains: DomainFiles) -> None:
    """Sorts both domains by stem. Raises DataError unless each stem is exactly once in each of them."""
    for files in domains:
        repeated = [stem for stem, count in Counter(path.stem for path in files).items() if count > 1]
        if repeated:
            raise DataError(
                f"{files[0].parent} has more than one image named {_shortened(repeated)}; keep one of each name"
            )
    for files, others in ((domains.a, domains.b), (domains.b, domains.a)):
        unmatched = sorted({path.stem for path in files} - {path.stem for path in others})
        if unmatched:
            raise DataError(
                f"{files[0].parent} has images without a partner of the same name in {others[0].parent},"
                f" {len(unmatched)} of {len(files)}: {_shortened(unmatched)};"
                " add or remove images, or give --data.layout unpaired"
            )
    for files in domains:
        files.sort(key=lambda path: path.stem)


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _flipped(images: Tensor, seed: int, epoch: int, index: Tensor) -> Tensor:
    """Mirrors half of the images horizontally; the choice depends on (seed, epoch, image) alone."""
    mirrored = uniform(seed, epoch, index, 1) < 0.5  # (N, 1)
    return torch.where(mirrored[:, :, None, None], images.flip(3), images)
