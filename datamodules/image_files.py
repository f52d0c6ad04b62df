"""Image files of the user: listed in a folder, read by Pillow, resized and cropped to one size."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from datamodules.files import DataError

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("png", "jpg", "jpeg", "jpe", "jfif", "webp", "avif", "bmp", "dib", "gif", "tif", "tiff"),
        *("pbm", "pgm", "ppm", "pnm", "tga", "pcx", "jp2", "j2k"),
    )
)
"""Suffixes of image files; other files in a folder are ignored."""
SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")
SECONDS_BEFORE_PROGRESS_BAR = 2.0
MAX_THREADS = 16

Size = tuple[int, int]
"""Height and width in pixels."""


def find_images(folder: Path) -> list[Path]:
    """Returns the image files of a folder, sorted by name, without hidden files and without those in sub-folders.

    Raises:
        DataError: The folder cannot be read or has no images.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()]
    except OSError as error:
        raise DataError(
            f"cannot read {folder} ({error.strerror or error}); check the path and its permissions"
        ) from error
    images = [folder / name for name in sorted(found) if Path(name).suffix.lower() in SUFFIXES]
    if not images:
        raise DataError(f"{folder} has no images; put image files there, such as .png or .jpg")
    return images


def read_image(path: Path, size: Size, grayscale: bool = False) -> np.ndarray:
    """Reads one image as uint8: H x W x 3, or H x W x 1 if `grayscale`.

    The EXIF orientation is applied, transparent pixels become white, and of an animation the first frame is read. The
    image is resized (bicubic) so that it covers `size`, and the longer side is cropped at the centre. 16-bit grayscale
    is converted to 8 bits.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with Image.open(path) as image:
            image.draft(None, (2 * max(size), 2 * max(size)))  # decodes a large JPEG at a lower resolution
            upright = ImageOps.exif_transpose(image)
            fitted = ImageOps.fit(_opaque(upright), (size[1], size[0]), Image.Resampling.BICUBIC)
            pixels = np.asarray(fitted.convert("L" if grayscale else "RGB"))
    except Exception as error:  # Pillow's readers raise many kinds of errors on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read as an image ({reason}); repair or remove it") from error
    return pixels[:, :, None] if grayscale else pixels


def read_images_into(targets: Sequence[tuple[Path, np.ndarray]], grayscale: bool = False) -> None:
    """Reads each file into its array, uint8 H x W x C, in several threads.

    On a terminal a progress bar is shown after two seconds.

    Raises:
        DataError: A file cannot be read.
    """

    def read(target: tuple[Path, np.ndarray]) -> None:
        path, pixels = target
        pixels[:] = read_image(path, (pixels.shape[0], pixels.shape[1]), grayscale)

    threads = min(MAX_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool, _progress_bar(len(targets)) as advance:
        for _ in pool.map(read, targets):
            advance()


def _opaque(image: Image.Image) -> Image.Image:
    """Converts an image to 8-bit grayscale or RGB, with transparent pixels on white."""
    if image.mode in SIXTEEN_BITS:
        return Image.fromarray(np.rint(np.asarray(image).clip(0, 65535) / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floats of unknown range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "L" else image.convert("RGB")


@contextlib.contextmanager
def _progress_bar(total: int) -> Iterator[Callable[[], None]]:
    """Yields a function to call after each of `total` steps."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    bar, began = Progress(console=Console(stderr=True), transient=True), time.monotonic()
    task = bar.add_task("reading images", total=total)

    def advance() -> None:
        if not bar.live.is_started and time.monotonic() - began > SECONDS_BEFORE_PROGRESS_BAR:
            bar.start()
        bar.advance(task)

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
