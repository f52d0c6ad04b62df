"""Labels of any kind (numbers, names, one-hot rows) as the numbers 0 .. K-1 of classes that keep their names."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datamodules.files import DataError

UNLABELLED = ("image",)
"""Name of the only class of images without labels."""
MANY_CLASSES = 1000
"""More classes than this are a mistake, such as a regression target, if most of them have one image only."""


def number_labels(
    labels: Mapping[str, np.ndarray], where: Any, names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Returns the labels of each part as numbers 0 .. K-1, and the names of the K classes that have images.

    Args:
        labels: For each part, such as train and test, one label for each image: a number, a string, or a row that has a
            single 1.
        where: Where the labels are from, for messages.
        names: Names of the labels 0, 1, ..., if they are known. By default the name of a label is the label.

    Raises:
        DataError: The labels are not those of classes.

    Examples:
        >>> number_labels({"train": np.array([7, 3, 7]), "test": np.array([3])}, "x.npz")
        ({'train': array([1, 0, 1]), 'test': array([0])}, ('3', '7'))
    """
    flat = {part: _one_per_image(array, f"{where}, {part}") for part, array in labels.items()}
    every = np.concatenate([*flat.values()])
    found, numbers = np.unique(every, return_inverse=True)
    if len(found) > MANY_CLASSES and len(found) > len(every) / 2:
        raise DataError(
            f"{where} has {len(found):,} different labels for {len(every):,} images, so that they are no classes;"
            " give labels of classes, or train without labels"
        )
    ends = np.cumsum([len(array) for array in flat.values()])[:-1]
    numbered = dict(zip(flat, np.split(numbers.reshape(-1).astype(np.int64), ends), strict=True))
    return numbered, tuple(_name(label, names) for label in found.tolist())


def _name(label: Any, names: Sequence[str] | None) -> str:
    if names is not None and isinstance(label, int) and 0 <= label < len(names):
        return str(names[label])
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)


def _one_per_image(labels: np.ndarray, where: str) -> np.ndarray:
    """Returns one label for each image, as integers or strings."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "biuf":
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()):
            raise DataError(
                f"{where}: the labels are rows of {labels.shape[1]} numbers that have not exactly one 1 each; data with"
                " several labels for an image cannot be used, so give one label for each image"
            )
        return labels.argmax(axis=1)
    if labels.ndim != 1 or labels.dtype.kind not in "biufUS":
        raise DataError(
            f"{where}: the labels are {labels.dtype} of shape {labels.shape}; give one number or one string for each"
            " image"
        )
    if labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and (labels == np.rint(labels)).all()):
            raise DataError(f"{where}: the labels are not whole numbers; give the labels of classes")
        return labels.astype(np.int64)
    return labels.astype(np.int64) if labels.dtype.kind == "b" else labels
