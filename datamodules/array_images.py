"""The images of an array file in the shape that is asked for, with labels 0 .. K-1 and the names of the classes."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from datamodules.array_file import ArrayFile
from datamodules.class_labels import UNLABELLED, number_labels
from datamodules.files import Arrays
from datamodules.image_files import MAX_PIXELS, Size, check_memory, check_size
from datamodules.image_reader import ImageReader, Resize, ValueRange

CHUNK = 256
"""Number of images that a thread resizes at once."""


class Fit(NamedTuple):
    """The shape that images get and how they get it. None: as in the file."""

    size: Size | None = None
    grayscale: bool | None = None
    resize: Resize = "crop"
    background: str = "white"

    @classmethod
    def of_options(
        cls, size: int | tuple[int, int] | None, grayscale: bool | None, resize: Resize, background: str
    ) -> "Fit":
        """Returns the fit of the options of a data module.

        Raises:
            ValueError: The size is not one of images.
        """
        return cls(None if size is None else check_size(size, MAX_PIXELS), grayscale, resize, background)

    def image_shape(self, stored: tuple[int, int, int]) -> tuple[int, int, int]:
        """Returns channels, height and width for images that are stored in another shape."""
        channels, *sides = stored
        height, width = self.size or sides
        return channels if self.grayscale is None else 1 if self.grayscale else 3, height, width

    def reader(self, channels: int) -> ImageReader:
        return ImageReader(channels == 1, resize=self.resize, background=self.background)


class ArrayImages:
    """Images of an array file; they are read by `read` only.

    Args:
        file: The file.
        fit: The shape that the images get.
        value_range: Values of black and white, see `ArrayFile.images`.
        class_names: Names of the labels 0, 1, ... if the file has none.

    Raises:
        DataError: From everything else: the file has no images or labels that can be used.
    """

    def __init__(
        self,
        file: ArrayFile,
        fit: Fit,
        value_range: ValueRange | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.file = file
        self.fit = fit
        self.value_range = value_range
        self._class_names = class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.fit.image_shape(self.file.image_shape)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._labels[1]

    def read(self) -> Arrays:
        """Returns x_train, y_train and, if the file has these parts, those of val and test."""
        numbers = [self.file.headers[names.images].shape[0] for names in self.file.parts.values()]
        check_memory(sum(numbers), self.image_shape)
        arrays: Arrays = {}
        for part in self.file.parts:
            arrays[f"x_{part}"] = fitted(
                self.file.images(part, self.value_range), self.image_shape, self.fit, self.file.path
            )
            arrays[f"y_{part}"] = self._labels[0][part]
        return arrays

    @cached_property
    def _labels(self) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
        """Labels 0 .. K-1 of each part, and the names of the classes. Images without labels are of one class."""
        stored = self.file.labels()
        if stored is None:
            numbers = {part: self.file.headers[names.images].shape[0] for part, names in self.file.parts.items()}
            return {part: np.zeros(number, np.int64) for part, number in numbers.items()}, UNLABELLED
        return number_labels(stored, self.file.path, self.file.class_names() or self._class_names)


def fitted(images: np.ndarray, shape: tuple[int, int, int], fit: Fit, name: Path) -> np.ndarray:
    """Returns images, uint8 N x H x W x C, of the shape (channels, height, width); `name` is theirs in messages.

    Images that have the shape already are returned as they are.
    """
    channels, height, width = shape
    if images.shape[1:] == (height, width, channels):
        return images
    reader, made = fit.reader(channels), np.empty((len(images), height, width, channels), np.uint8)

    def make(rows: slice) -> None:
        for pixels, target in zip(images[rows], made[rows], strict=True):
            image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
            target[:] = reader.fit(image, name, (height, width))

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for _ in pool.map(make, (slice(first, first + CHUNK) for first in range(0, len(images), CHUNK))):
            pass
    return made
