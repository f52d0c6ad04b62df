"""Reads image files of the user: decoded by Pillow, converted to 8 bits, and brought to one size."""

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
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageColor, ImageOps

from datamodules.errors import DataError
from datamodules.image_files import MAX_PIXELS, SUFFIXES, Size
from datamodules.reading_processes import ReadingProcesses

FRACTION = 1 / 4
"""Part of its range that an image of more than 8 bits has to exceed; 12 of 16 bits are a sixteenth."""
SECONDS_BEFORE_PROGRESS_BAR = 2.0
MAX_PARALLEL = 16
IMAGES_PER_PROCESS = 1000
"""Fewer images are read in threads, which wait for each other in a part of the work, but start at once."""
CHUNK = 32
"""Number of images that a process is given at once."""

ValueRange = tuple[float, float]
"""The values of black and of white."""
Resize = Literal["crop", "pad", "stretch"]
Images = np.ndarray | tuple[np.ndarray, np.ndarray]
"""uint8 N x H x W x C; two of them for files that have two images side by side."""
Chunk = tuple[Sequence[Path], list[np.ndarray]]
"""Files, and one or two arrays for their images."""

_OPENING = threading.Lock()


class ImageReader:
    """Reads image files as uint8: H x W x 3, or H x W x 1 if `grayscale`.

    The EXIF orientation is applied, transparent pixels get the background's colour, and of an animation the first frame
    is read, which is said once. Images of more than 8 bits are converted to 8 bits. Pillow reads the upper 8 bits of
    16-bit colour images only.

    Args:
        grayscale: Whether images have one channel instead of three.
        value_range: Values of black and of white in images of more than 8 bits. By default the range of the file type:
            0 to 65535 for 16 bits, 0 to 4294967295 for 32 bits (up to 32767 and 2147483647 with a sign), 0 to 1 for
            floats. Says so once if an image uses a small part of its range only.
        max_pixels: Largest number of pixels of a file; larger ones are refused before they are decoded.
        options: Names of the options `value_range` and `max_pixels` in messages.
        resize: How an image of another shape gets the size: `crop` covers it and cuts the longer side in the middle,
            `pad` fits into it and fills the rest with the background's colour, `stretch` changes height and width.
        background: Colour behind transparent pixels and around padded images, as a name or as `#rrggbb`.

    Raises:
        ValueError: An argument is impossible.
    """

    def __init__(
        self,
        grayscale: bool = False,
        value_range: ValueRange | None = None,
        max_pixels: int = MAX_PIXELS,
        options: tuple[str, str] = ("--data.value_range", "--data.max_pixels"),
        resize: Resize = "crop",
        background: str = "white",
    ) -> None:
        range_option, pixels_option = (option.removeprefix("--") for option in options)
        if value_range is not None:
            low, high = value_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"{range_option} is {low:g} to {high:g}; give a finite number and a larger one")
        if max_pixels < 1:
            raise ValueError(f"{pixels_option} is {max_pixels}; it must be at least 1")
        if resize not in get_args(Resize):
            raise ValueError(f"data.resize is {resize}; it is one of {', '.join(get_args(Resize))}")
        try:
            red, green, blue = ImageColor.getrgb(background)[:3]
        except (ValueError, AttributeError):
            raise ValueError(f"data.background is {background}; give a colour such as black or '#ff8000'") from None
        self.grayscale = grayscale
        self.value_range = value_range
        self.max_pixels = max_pixels
        self.options = options
        self.resize = resize
        self.background = (red, green, blue)
        self.said: dict[str, str] = {}
        """What was said of the first image of a kind, by kind."""
        self.is_quiet = False

    def read(self, path: Path, size: Size | None = None) -> np.ndarray:
        """Reads one image.

        It is resized (bicubic, antialiased) to `size`. Without `size` it keeps its own.

        Raises:
            DataError: The file cannot be read, or is too large.
        """
        with self._open(path) as image:
            if size is not None:
                image.draft(None, (2 * max(size), 2 * max(size)))  # decodes a large JPEG at a lower resolution
            return self._fit(self._upright(image, path), size)

    def fit(self, image: Image.Image, name: Path, size: Size | None = None) -> np.ndarray:
        """Returns an image that Pillow has opened, as `read` does; `name` is its name in messages.

        Raises:
            DataError: It cannot be used.
        """
        return self._fit(self._upright(image, name), size)

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

    def read_into(self, groups: Sequence[tuple[Sequence[Path], Images]], skip_broken: bool = False) -> dict[int, str]:
        """Reads files into an array, uint8 N x H x W x C, or their halves into two arrays, in several processes.

        A few files are read in threads, as a process takes time to start. On a terminal a progress bar is shown after
        two seconds.

        Args:
            groups: Files and the arrays of their images.
            skip_broken: Whether files that cannot be read are left out.

        Returns:
            The reasons for which files were left out, by their positions among the files of all groups.

        Raises:
            DataError: A file cannot be read, or is too large, unless `skip_broken`.
        """
        total = sum(len(paths) for paths, _ in groups)
        number = min(MAX_PARALLEL, _num_cpus(), total // IMAGES_PER_PROCESS)
        left_out: dict[int, str] = {}
        with contextlib.ExitStack() as stack:
            if number > 1:
                step, read = CHUNK, stack.enter_context(ReadingProcesses(self, number)).read
            else:
                step, read, number = 1, self.read_chunk, min(MAX_PARALLEL, _num_cpus())
            advance = stack.enter_context(progress_bar(total))
            pool = stack.enter_context(ThreadPoolExecutor(number))
            position = 0
            for reasons in pool.map(lambda chunk: read(*chunk), _chunks(groups, step)):
                for reason in reasons:
                    if reason is not None:
                        if not skip_broken:
                            raise DataError(reason)
                        left_out[position] = reason
                    position += 1
                advance(len(reasons))
        return left_out

    def read_chunk(self, paths: Sequence[Path], images: Sequence[np.ndarray]) -> list[str | None]:
        """Reads files into one array, or halves into two; returns the reason for each that is not possible, or None."""
        size, reasons = images[0].shape[1:3], list[str | None]()
        for k, path in enumerate(paths):
            try:
                made = (self.read(path, size),) if len(images) == 1 else self.read_halves(path, size)
            except DataError as error:
                reasons.append(str(error))
            else:
                for target, source in zip(images, made, strict=True):
                    target[k] = source
                reasons.append(None)
        return reasons

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
        """Decodes an image to 8-bit grayscale or RGB, with its EXIF orientation and without transparency.

        The image itself is changed, and may be the result: a copy takes longer than a small image's other steps.
        """
        stored_as = _stored_as(image)
        if image.format != "MPO" and getattr(image, "is_animated", False):  # a photograph may have others inside it
            self.say("animation", f"{path} has several frames, of which the first is read, as in every such file")
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode == "F" or image.mode.startswith("I"):
            values, full = _wide_values(image, stored_as)
            return Image.fromarray(self._to_8_bits(values, full, path))
        opaque = self._opaque(image)
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
        if low < most <= low + FRACTION * (high - low):
            self.say(
                "dark",
                f"{path} has the values {least:g} to {most:g} of {low:g} to {high:g}, so that it is dark;"
                f" if its white is not {high:g}, give the values of black and white with {option}",
            )
        return np.rint((values.clip(low, high) - low) * (255 / (high - low))).astype(np.uint8)

    def _opaque(self, image: Image.Image) -> Image.Image:
        """Converts an image of 8 bits to grayscale or RGB, with transparent pixels on the background."""
        if image.has_transparency_data:
            image = image.convert("RGBA")
            behind = Image.new("RGBA", image.size, (*self.background, 255))
            return Image.alpha_composite(behind, image).convert("RGB")
        return image if image.mode == "L" else _in_mode(image, "RGB")

    def _fit(self, image: Image.Image, size: Size | None) -> np.ndarray:
        fitted = _in_mode(self._resized(image, size), "L" if self.grayscale else "RGB")
        values = np.frombuffer(fitted.tobytes(), np.uint8)  # faster than np.asarray(fitted)
        return values.reshape(fitted.height, fitted.width, -1)

    def _resized(self, image: Image.Image, size: Size | None) -> Image.Image:
        if size is None:
            return image
        width_height = (size[1], size[0])
        if self.resize == "crop":
            return ImageOps.fit(image, width_height, Image.Resampling.BICUBIC)
        if self.resize == "stretch":
            return image.resize(width_height, Image.Resampling.BICUBIC)
        return ImageOps.pad(_in_mode(image, "RGB"), width_height, Image.Resampling.BICUBIC, self.background)

    def say(self, kind: str, line: str) -> None:
        """Prints a line once for each kind; a process that reads for another one hands it over."""
        if kind not in self.said:
            self.said[kind] = line
            if not self.is_quiet:
                print(line, file=sys.stderr, flush=True)


def _chunks(groups: Sequence[tuple[Sequence[Path], Images]], step: int) -> Iterator[Chunk]:
    """Yields `step` files at a time, with their part of the arrays."""
    for paths, images in groups:
        arrays = [np.asarray(of) for of in (images if isinstance(images, tuple) else (images,))]
        for first in range(0, len(paths), step):
            part = slice(first, first + step)
            yield paths[part], [of[part] for of in arrays]


def _num_cpus() -> int:
    """Returns the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Converts an image; one of that mode is returned as it is, of which Pillow's `convert` makes a copy."""
    return image if image.mode == mode else image.convert(mode)


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


@contextlib.contextmanager
def progress_bar(total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function to call with the number of steps that were made, of `total`."""
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    from rich.console import Console
    from rich.progress import Progress

    bar, began = Progress(console=Console(stderr=True), transient=True), time.monotonic()
    task = bar.add_task("reading images", total=total)

    def advance(steps: int) -> None:
        if not bar.live.is_started and time.monotonic() - began > SECONDS_BEFORE_PROGRESS_BAR:
            bar.start()
        bar.advance(task, steps)

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
