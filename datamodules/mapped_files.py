"""Where the images of a mapped array lie in its file, for others that read or write them there."""

from typing import NamedTuple

import numpy as np


class Place(NamedTuple):
    """A piece of a file that holds images one after another: its first byte, and M x C x H x W."""

    path: str
    offset: int
    shape: tuple[int, ...]

    def opened(self) -> np.ndarray:
        """Maps the images, M x H x W x C, so that what is written to them is written to the file."""
        return np.memmap(self.path, np.uint8, "r+", self.offset, self.shape).transpose(0, 2, 3, 1)


def mapped_file(array: np.ndarray) -> np.memmap | None:
    """Returns the map that an array is a view of; None: it is in memory, or the map is of no file with a name."""
    file: np.memmap | None = None
    above: object = array
    while isinstance(above, np.ndarray):
        file = above if isinstance(above, np.memmap) else file
        above = above.base
    return None if file is None or file.filename is None else file


def offset_in_file(array: np.ndarray, file: np.memmap) -> int:
    """Returns the first byte, in the file of a map, of an array that is a view of it."""
    return int(file.offset + array.ctypes.data - file.ctypes.data)


def lie_in_file(array: np.ndarray) -> bool:
    """Whether an array of images M x C x H x W is mapped from a file in which they lie one after another."""
    if array.dtype != np.uint8 or array.ndim != 4 or mapped_file(array) is None:
        return False
    order = sorted(range(1, 4), key=lambda axis: array.strides[axis], reverse=True)
    return array.transpose(0, *order).flags.c_contiguous


def place_in_file(images: np.ndarray) -> Place | None:
    """Returns where images M x H x W x C lie in a file as M x C x H x W; None: they do not, or must not be changed."""
    file, as_stored = mapped_file(images), images.transpose(0, 3, 1, 2)
    if file is None or file.mode not in ("r+", "w+") or not as_stored.flags.c_contiguous:
        return None
    return Place(str(file.filename), offset_in_file(images, file), as_stored.shape)
