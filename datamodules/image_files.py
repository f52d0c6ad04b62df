"""Image files of the user: how they are listed, and the sizes that are allowed."""

import errno
import math
import os
import stat
from pathlib import Path

from datamodules.errors import DataError

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("png", "jpg", "jpeg", "jpe", "jfif", "webp", "avif", "bmp", "dib", "gif", "tif", "tiff"),
        *("pbm", "pgm", "ppm", "pnm", "tga", "pcx", "jp2", "j2k"),
    )
)
"""Suffixes of image files; other files in a folder are ignored."""
MAX_PIXELS = 80_000_000
"""Default of the largest number of pixels of an image file."""

Size = tuple[int, int]
"""Height and width in pixels."""


def find_images(folder: Path) -> list[Path]:
    """Returns the image files of a folder, sorted by name, without hidden files and without those in sub-folders.

    Raises:
        DataError: The folder cannot be read or has no images, or an image is a link that leads nowhere.
    """
    images = images_in(folder)
    if not images:
        raise DataError(f"{folder} has no images; put image files there, such as .png or .jpg")
    return images


def images_in(folder: Path) -> list[Path]:
    """Returns what `find_images` does, or an empty list."""
    return [
        folder / entry.name
        for entry in _entries(folder)
        if os.path.splitext(entry.name)[1].lower() in SUFFIXES
        and (is_file(folder / entry.name) if entry.is_symlink() else entry.is_file())
    ]


def folders_in(folder: Path) -> list[Path]:
    """Returns the folders in a folder, sorted by name, without hidden ones.

    Raises:
        DataError: The folder cannot be read, or has a link that leads nowhere.
    """
    return [
        folder / entry.name
        for entry in _entries(folder)
        if (is_folder(folder / entry.name) if entry.is_symlink() else entry.is_dir())
    ]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Returns what is in a folder, sorted by name, without hidden files and folders."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"cannot read {folder} ({error.strerror or error}); check the path and its permissions"
        ) from error


def is_folder(path: Path) -> bool:
    """Whether there is a folder. Raises DataError for a link that leads nowhere."""
    return stat.S_ISDIR(_mode(path))


def is_file(path: Path) -> bool:
    """Whether there is a regular file. Raises DataError for a link that leads nowhere."""
    return stat.S_ISREG(_mode(path))


def _mode(path: Path) -> int:
    """Returns the mode of a file or folder; 0 if there is none."""
    try:
        return path.stat().st_mode
    except OSError as error:
        if error.errno == errno.ELOOP or os.path.islink(path):
            reason = "is a link in a loop" if error.errno == errno.ELOOP else "is a link to a file that is not there"
            raise DataError(f"{path} {reason}; repair or remove it") from None
        return 0


def check_size(size: int | tuple[int, int], max_pixels: int) -> Size:
    """Returns height and width of the option `data.size`.

    Raises:
        ValueError: They are below 1, or more than `max_pixels`.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ValueError(f"data.size is {size}; give at least 1")
    if height * width > max_pixels:
        raise ValueError(
            f"data.size is {height} x {width} pixels, more than data.max_pixels, {max_pixels:,}; give a smaller size"
        )
    return height, width


def check_memory(number: int, shape: tuple[int, int, int]) -> None:
    """Checks that images of a shape, uint8, fit into the memory of this machine.

    Raises:
        DataError: They do not.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = number * math.prod(shape)
    if needed > memory:
        sides = " x ".join(map(str, shape))
        raise DataError(
            f"{number:,} images of {sides} take {needed / 1e9:,.0f} GB, and this machine has {memory / 1e9:,.0f} GB;"
            " give a smaller --data.size"
        )
