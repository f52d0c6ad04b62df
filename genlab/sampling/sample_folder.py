"""Writes samples as a folder of PNG files, with a sub-folder for each class."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from genlab.sampling.images import to_picture

DIGITS = 5
"""Least number of digits in the name of a file."""
FORBIDDEN = re.compile(r'[\x00-\x1f/\\:*?"<>|]+')
"""What a name of a folder must not have on one system or another."""


class SampleFolder:
    """Writes images as `<folder>/<class>/00000.png`, or `<folder>/00000.png` without classes, numbered from 0.

    Args:
        folder: An empty folder.
        count: Largest number of images of a class.
        names: Names of the classes; empty if there are none.
    """

    def __init__(self, folder: Path, count: int, names: Sequence[str] = ()) -> None:
        self.folder = folder
        self.digits = max(DIGITS, len(str(count - 1)))
        self.folders = class_folders(names)
        self.counts: Counter[int | None] = Counter()

    def add(self, images: Tensor, classes: Tensor | None) -> None:
        """Writes images, uint8 N x C x H x W, of these classes, int64, N; None without classes."""
        labels = [None] * len(images) if classes is None else classes.tolist()
        for image, label in zip(images, labels, strict=True):
            folder = self.folder if label is None else self.folder / self.folders[label]
            folder.mkdir(exist_ok=True)
            to_picture(image).save(folder / f"{self.counts[label]:0{self.digits}}.png")
            self.counts[label] += 1


def class_folders(names: Sequence[str]) -> list[str]:
    """Names of folders, one for each class; they differ in more than upper and lower case, and none is hidden.

    >>> class_folders(["T-shirt/top", "bag", "Bag"])
    ['T-shirt_top', 'bag', 'Bag_2']
    """
    found: list[str] = []
    for number, name in enumerate(names):
        safe = FORBIDDEN.sub("_", name).strip(". ") or "_"
        taken = {other.casefold() for other in found}
        while safe.casefold() in taken:
            safe = f"{safe}_{number}"
        found.append(safe)
    return found


def number_names(count: int) -> list[str]:
    """Names of classes whose names are not known: their numbers, in an order that sorting by name keeps."""
    return [f"{label:0{len(str(count - 1))}}" for label in range(count)]
