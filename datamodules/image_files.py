"""A user's own image files: found in a folder, read by Pillow, cut to one size."""

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
"""Other files in a folder are none of the images."""
SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")
SECONDS_WITHOUT_A_BAR = 2.0
MOST_THREADS = 16

Size = tuple[int, int]
"""Height and width in pixels."""


def find_images(folder: Path) -> list[Path]:
    """The image files of a folder by name; hidden ones and those in folders below it are left out.

    Raises:
        DataError: the folder cannot be read, or has none.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()]
    except OSError as error:
        raise DataError(f"cannot read {folder} ({error.strerror or error})") from error
    images = [folder / name for name in sorted(found) if Path(name).suffix.lower() in SUFFIXES]
    if not images:
        raise DataError(f"{folder} has no images; put files there that end in .png, .jpg or another suffix of images")
    return images


def read_image(path: Path, size: Size, grey: bool = False) -> np.ndarray:
    """One image as uint8, H x W x 3, or H x W x 1 where `grey`.

    It is turned as its EXIF orientation says and laid on white where it is transparent; of a training_gif the first picture is
    taken. The shorter side, by the proportions of `size`, is brought to it (bicubic) and the longer one cut on both
    ends. Grey of 16 bits is brought to 8.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            image.draft(None, (2 * max(size), 2 * max(size)))  # of a large JPEG no more pixels than are needed
            upright = ImageOps.exif_transpose(image)
            fitted = ImageOps.fit(_opaque(upright), (size[1], size[0]), Image.Resampling.BICUBIC)
            pixels = np.asarray(fitted.convert("L" if grey else "RGB"))
    except Exception as error:  # Pillow's readers raise almost anything on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be read as an image ({reason}); mend it or take it away") from error
    return pixels[:, :, None] if grey else pixels


def read_into(places: Sequence[tuple[Path, np.ndarray]], grey: bool = False) -> None:
    """Reads each file into its array, uint8 H x W x C, in several threads; with a bar on a terminal when it takes long.

    Raises:
        DataError: the first file that cannot be read.
    """

    def read(place: tuple[Path, np.ndarray]) -> None:
        path, pixels = place
        pixels[:] = read_image(path, (pixels.shape[0], pixels.shape[1]), grey)

    threads = min(MOST_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool, _bar(len(places)) as advance:
        for _ in pool.map(read, places):
            advance()


def _opaque(image: Image.Image) -> Image.Image:
    """An image of 8-bit grey or RGB."""
    if image.mode in SIXTEEN_BITS:
        return Image.fromarray(np.rint(np.asarray(image).clip(0, 65535) / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floats, whose range is not known; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "L" else image.convert("RGB")


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """A function to be called after each of `total` steps."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    bar, began = Progress(console=Console(stderr=True), transient=True), time.monotonic()
    task = bar.add_task("reading images", total=total)

    def advance() -> None:
        if not bar.live.is_started and time.monotonic() - began > SECONDS_WITHOUT_A_BAR:
            bar.start()
        bar.advance(task)

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
