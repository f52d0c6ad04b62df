"""Reads image files of the user: decoded by Pillow, converted to 8 bits, resized and cropped to one size."""

import contextlib
import functools
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from datamodules.files import DataError
from datamodules.image_files import MAX_PIXELS, SUFFIXES, Size

FRACTION = 1 / 4
"""Part of its range that an image of more than 8 bits has to exceed; 12 of 16 bits are a sixteenth."""
SECONDS_BEFORE_PROGRESS_BAR = 2.0
MAX_THREADS = 16

ValueRange = tuple[float, float]
"""The values of black and of white."""

_OPENING = threading.Lock()


class ImageReader:
    """Reads image files as uint8: H x W x 3, or H x W x 1 if `grayscale`.

    The EXIF orientation is applied, transparent pixels become white, and of an animation the first frame is read.
    Images of more than 8 bits are converted to 8 bits. Pillow reads the upper 8 bits of 16-bit colour images only.

    Args:
        grayscale: Whether images have one channel instead of three.
        value_range: Values of black and of white in images of more than 8 bits. By default the range of the file type:
            0 to 65535 for 16 bits, 0 to 4294967295 for 32 bits (up to 32767 and 2147483647 with a sign), 0 to 1 for
            floats. Says so once if an image uses a small part of its range only.
        max_pixels: Largest number of pixels of a file; larger ones are refused before they are decoded.
        options: Names of the options `value_range` and `max_pixels` in messages.

    Raises:
        ValueError: `value_range` or `max_pixels` is impossible.
    """

    def __init__(
        self,
        grayscale: bool = False,
        value_range: ValueRange | None = None,
        max_pixels: int = MAX_PIXELS,
        options: tuple[str, str] = ("--data.value_range", "--data.max_pixels"),
    ) -> None:
        range_option, pixels_option = (option.removeprefix("--") for option in options)
        if value_range is not None:
            low, high = value_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"{range_option} is {low:g} to {high:g}; give a finite number and a larger one")
        if max_pixels < 1:
            raise ValueError(f"{pixels_option} is {max_pixels}; it must be at least 1")
        self.grayscale = grayscale
        self.value_range = value_range
        self.max_pixels = max_pixels
        self.options = options
        self._warned = False

    def read(self, path: Path, size: Size | None = None) -> np.ndarray:
        """Reads one image.

        It is resized (bicubic) so that it covers `size`, and the longer side is cropped at the centre. Without `size`
        it keeps its own.

        Raises:
            DataError: The file cannot be read, or is too large.
        """
        with self._open(path) as image:
            if size is not None:
                image.draft(None, (2 * max(size), 2 * max(size)))  # decodes a large JPEG at a lower resolution
            return self._fit(self._upright(image, path), size)

    def read_halves(self, path: Path, size: Size) -> tuple[np.ndarray, np.ndarray]:
        """Reads an image that consists of two, side by side: the left and the right one, each as by `read`.

        Raises:
            DataError: The file cannot be read, is too large, or cannot be halved.
        """
        with self._open(path) as image:
            both = self._upright(image, path)
            width, height = both.size
            if width % 2:
                raise DataError(f"{path} is {width} pixels wide, so that it has no two halves; repair or remove it")
            boxes = ((0, 0, width // 2, height), (width // 2, 0, width, height))
            left, right = (self._fit(both.crop(box), size) for box in boxes)
            return left, right

    def read_into(self, targets: Sequence[tuple[Path, np.ndarray | tuple[np.ndarray, np.ndarray]]]) -> None:
        """Reads each file into its array, uint8 H x W x C, or its halves into two arrays, in several threads.

        On a terminal a progress bar is shown after two seconds.

        Raises:
            DataError: A file cannot be read, or is too large.
        """

        def read(target: tuple[Path, np.ndarray | tuple[np.ndarray, np.ndarray]]) -> None:
            path, pixels = target
            if isinstance(pixels, tuple):
                pixels[0][:], pixels[1][:] = self.read_halves(path, pixels[0].shape[:2])
            else:
                pixels[:] = self.read(path, pixels.shape[:2])

        threads = min(MAX_THREADS, os.cpu_count() or 1)
        with ThreadPoolExecutor(threads) as pool, _progress_bar(len(targets)) as advance:
            for _ in pool.map(read, targets):
                advance()

    @contextlib.contextmanager
    def _open(self, path: Path) -> Iterator[Image.Image]:
        """Opens a file of at most `max_pixels`; makes a DataError of any error of Pillow's."""
        try:
            with _open_header(path) as image:
                width, height = image.size
                if width * height > self.max_pixels:
                    raise DataError(
                        f"{path} has {width} x {height} pixels, more than {self.max_pixels:,};"
                        f" remove it or give a larger {self.options[1]}"
                    )
                yield image
        except DataError:
            raise
        except Exception as error:  # Pillow's readers raise many kinds of errors on damaged files
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{path} cannot be read as an image ({reason}); repair or remove it") from error

    def _upright(self, image: Image.Image, path: Path) -> Image.Image:
        """Decodes an image to 8-bit grayscale or RGB, with its EXIF orientation and without transparency."""
        stored_as = _stored_as(image)
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "F" or upright.mode.startswith("I"):
            values, full = _wide_values(upright, stored_as)
            return Image.fromarray(self._to_8_bits(values, full, path))
        opaque = _opaque(upright)
        if ";16" in stored_as:
            return Image.fromarray(self._to_8_bits(np.asarray(opaque) * np.float32(257), (0, 65535), path))
        return opaque

    def _to_8_bits(self, values: np.ndarray, full: ValueRange, path: Path) -> np.ndarray:
        """Converts values to uint8: those of black to 0, those of white to 255."""
        low, high = self.value_range or full
        least, most = float(values.min()), float(values.max())
        option = self.options[0]
        if not (math.isfinite(least) and math.isfinite(most)):
            raise DataError(f"{path} has pixels that are no finite numbers; repair or remove it")
        if self.value_range is None and not (low <= least and most <= high):
            raise DataError(
                f"{path} has the values {least:g} to {most:g}, outside {low:g} to {high:g};"
                f" give the values of black and white with {option}"
            )
        if low < most <= low + FRACTION * (high - low) and not self._warned:
            self._warned = True
            print(
                f"{path} has the values {least:g} to {most:g} of {low:g} to {high:g}, so that it is dark;"
                f" if its white is not {high:g}, give the values of black and white with {option}",
                file=sys.stderr,
                flush=True,
            )
        return np.rint((values.clip(low, high) - low) * (255 / (high - low))).astype(np.uint8)

    def _fit(self, image: Image.Image, size: Size | None) -> np.ndarray:
        fitted = image if size is None else ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)
        pixels = np.asarray(fitted.convert("L" if self.grayscale else "RGB"))
        return pixels[:, :, None] if self.grayscale else pixels


def _open_header(path: Path) -> Image.Image:
    """Opens a file of one of the formats of SUFFIXES. Pillow's own limit of the size is not used, but `max_pixels`."""
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@functools.cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of the formats; others, such as PostScript, are not read whatever the suffix of the file."""
    known = Image.registered_extensions()
    return tuple(sorted({known[suffix] for suffix in SUFFIXES if suffix in known}))


def _stored_as(image: Image.Image) -> str:
    """Returns Pillow's name of the pixel format in an opened file, such as `RGB;16B`."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0][3]) if tiles else ""


def _wide_values(image: Image.Image, stored_as: str) -> tuple[np.ndarray, ValueRange]:
    """Returns the values of an image of more than 8 bits, and the range of its file type."""
    values = np.asarray(image)
    if image.mode == "F":
        return values, (0, 1)
    bits, signed = 32 if ";32" in stored_as else 16, "S" in stored_as
    if bits == 32 and not signed:
        values = values.view(np.uint32)
    return values.astype(np.float64), (0, 2 ** (bits - signed) - 1)


def _opaque(image: Image.Image) -> Image.Image:
    """Converts an image of 8 bits to grayscale or RGB, with transparent pixels on white."""
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
