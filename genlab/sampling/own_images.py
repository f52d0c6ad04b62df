"""Your own image files: how they are listed, and how they are read in batches as a model takes them."""

import argparse
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from datamodules import DataError
from datamodules.class_folders import PART_NAMES, images_below
from datamodules.image_files import MAX_PIXELS, Size, is_file, is_folder
from datamodules.image_reader import ImageReader, Resize, ValueRange
from genlab.runs.errors import UsageError
from genlab.sampling.run_data import training_option
from genlab.words import counted

NAMED = 3
"""Number of the images left out that a message names."""


@dataclass(frozen=True)
class Reading:
    """How image files are read: the options of the same names of `ImageReader`."""

    value_range: ValueRange | None = None
    max_pixels: int = MAX_PIXELS
    resize: Resize = "crop"
    background: str = "white"

    @classmethod
    def as_trained(cls, options: argparse.Namespace, checkpoint: Path | None) -> "Reading":
        """As the images were read that a checkpoint was trained on, where the command line says nothing else.

        Raises:
            CheckpointError: The checkpoint cannot be read.
        """
        known = {name: training_option(checkpoint, name) for name in cls.__annotations__} if checkpoint else {}
        resize: Any = known.get("resize")
        background = known.get("background")
        if resize not in get_args(Resize) or not isinstance(background, str):  # a user's own data module
            resize, background = "crop", "white"
        value_range = options.value_range or known.get("value_range")
        return cls(value_range, options.max_pixels or MAX_PIXELS, resize, background)

    def reader(self, channels: int) -> ImageReader:
        """A reader of images of 1 or 3 channels."""
        options = ("--value-range", "--max-pixels")
        return ImageReader(channels == 1, self.value_range, self.max_pixels, options, self.resize, self.background)


def images_and_others(source: Path, without: Path | None = None) -> tuple[list[Path], list[Path]]:
    """Lists the images of a folder and of its sub-folders, sorted, and the other files; a single file is an image.

    Hidden files and folders are not listed.

    Args:
        source: The folder or file.
        without: A folder whose files are not listed: that of the results, which may be inside of `source`.

    Raises:
        UsageError: The path does not exist.
        DataError: A folder cannot be read, or there are no images, or a link leads nowhere.
    """
    if is_file(source):
        return [source], []
    if not is_folder(source):
        raise UsageError(f"there is no folder or image {source}; check the path")
    outside = None if without is None or source.resolve().is_relative_to(without.resolve()) else without.resolve()
    images = [path for path in images_below(source) if outside is None or not path.resolve().is_relative_to(outside)]
    if not images:
        raise DataError(f"{source} has no images; put image files there, such as .png or .jpg")
    known = set(images)
    others = [
        path
        for path in source.rglob("*")
        if path.is_file()
        and path not in known
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
        and (outside is None or not path.resolve().is_relative_to(outside))
    ]
    return images, others


def class_labels(images: Sequence[Path], source: Path) -> tuple[list[int], list[str]]:
    """The class of each image of a folder, and the names of the classes: the sub-folders, sorted.

    In a folder with `train`, `val` and `test` the classes are the folders in these. An image in no sub-folder has the
    label -1.
    """
    inside = [path.relative_to(source).parts[:-1] if path != source else () for path in images]
    if any(parts[:1] == ("train",) for parts in inside):
        names_of_parts = {name for names in PART_NAMES.values() for name in names}
        inside = [parts[1:] if parts and parts[0] in names_of_parts else parts for parts in inside]
    names = sorted({parts[0] for parts in inside if parts})
    numbers = {name: number for number, name in enumerate(names)}
    return [numbers[parts[0]] if parts else -1 for parts in inside], names


class ImageFiles:
    """Image files that are read in threads, one batch ahead, so that memory does not grow with their number.

    Args:
        paths: The files.
        reader: Reads them.
        size: Height and width that they get.
        skip_broken: Leave out files that cannot be read.
    """

    def __init__(self, paths: Sequence[Path], reader: ImageReader, size: Size, skip_broken: bool = False) -> None:
        self.paths = paths
        self.reader = reader
        self.size = size
        self.skip_broken = skip_broken
        self.left_out: list[Path] = []

    def __len__(self) -> int:
        return len(self.paths)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, list[int]]]:
        """Yields images, uint8 N x C x H x W, and their positions in `paths`; a batch may have none.

        Raises:
            DataError: A file cannot be read, unless `skip_broken`.
        """
        waiting: deque[list[tuple[int, Future[np.ndarray]]]] = deque()
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            try:
                for start in range(0, len(self.paths), batch_size):
                    positions = range(start, min(start + batch_size, len(self.paths)))
                    waiting.append([(k, pool.submit(self.reader.read, self.paths[k], self.size)) for k in positions])
                    if len(waiting) > 1:
                        yield self._collected(waiting.popleft())
                while waiting:
                    yield self._collected(waiting.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _collected(self, reading: list[tuple[int, "Future[np.ndarray]"]]) -> tuple[Tensor, list[int]]:
        pixels, positions = [], []
        for position, future in reading:
            try:
                pixels.append(future.result())
            except DataError as error:
                if not self.skip_broken:
                    raise or_skip(error, self.paths) from error
                self.left_out.append(self.paths[position])
            else:
                positions.append(position)
        channels = 1 if self.reader.grayscale else 3
        images = np.stack(pixels) if pixels else np.empty((0, *self.size, channels), np.uint8)
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), positions


def or_skip(error: DataError, paths: Sequence[Path]) -> DataError:
    """The error of one of these files, which cannot be read, with the way around it if there are others."""
    return DataError(f"{error}, or leave out such files with --skip-broken") if len(paths) > 1 else error


def report_left_out(left_out: Sequence[Path], total: int, source: Path) -> None:
    """Says which images were left out.

    Raises:
        DataError: All of them were.
    """
    if not left_out:
        return
    names = ", ".join(map(str, left_out[:NAMED])) + (", ..." if len(left_out) > NAMED else "")
    if len(left_out) == total:
        raise DataError(f"no image in {source} can be read: {names}")
    print(
        f"{len(left_out):,} of {counted(total, 'image')} in {source} cannot be read and are left out: {names}",
        file=sys.stderr,
    )
