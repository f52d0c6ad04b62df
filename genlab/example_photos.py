"""Makes a small folder of real pictures, parts of the two photographs that come with scikit-learn; no download.

Each part is at a random place and of a random size. There is a sub-folder for each photograph: china, flower.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from genlab.arguments import Parser, positive
from genlab.interrupts import end_quietly_on_interrupt
from genlab.runs.errors import UsageError, error_message
from genlab.words import counted

SMALLEST = 96
"""Shortest width of a part, in pixels."""


def make_photos(folder: Path, count: int) -> None:
    """Writes `count` JPEG files for each photograph as `<folder>/<photograph>/<number>.jpg`, all of them or none.

    The pictures are the same on every machine.

    Args:
        folder: Folder to make. It may be there already if it is empty.
        count: Number of files for each photograph.

    Raises:
        UsageError: The folder has files already, or cannot be written.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder} is there already; give another folder, or remove it first")
    random = np.random.default_rng(0)
    photographs = load_sample_images()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            made = Path(scratch) / folder.name
            for path, pixels in zip(photographs.filenames, photographs.images, strict=True):
                parts = made / Path(path).stem
                parts.mkdir(parents=True)
                for k in range(count):
                    Image.fromarray(random_part(pixels, random)).save(parts / f"{k:04d}.jpg", quality=90)
            made.rename(folder)
    except OSError as error:
        raise UsageError(f"cannot write {folder} ({error_message(error)}); give another folder") from error


def random_part(photograph: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns a part of a photograph, H x W x 3, with sides of 4 to 3, between SMALLEST and half of the photograph."""
    width = int(random.integers(SMALLEST, photograph.shape[1] // 2))
    height = width * 3 // 4
    top, left = (int(random.integers(0, most)) for most in np.subtract(photograph.shape[:2], (height, width)) + 1)
    return photograph[top : top + height, left : left + width]


def main(args: list[str] | None = None) -> int:
    """Runs the command; exit status 2 if the folder cannot be made."""
    parser = Parser("python -m genlab.example_photos", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder to make")
    parser.add_argument(
        "--count", type=positive, default=1000, help="pictures of each photograph (default: %(default)s)"
    )
    options = parser.parse_args(args)
    try:
        make_photos(options.folder, options.count)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.folder}: {counted(options.count, 'picture')} each of china and flower")
    return 0


if __name__ == "__main__":
    end_quietly_on_interrupt()
    sys.exit(main())
