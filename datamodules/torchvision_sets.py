"""Any data set of torchvision with one label for each picture, found by the signature of its constructor."""

import difflib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torchvision
from torch import Tensor

TRAIN_SPLITS = ("train", "trainval", "train-standard")
VAL_SPLITS = ("val", "valid")
HAS_ALL_VALIDATION = ("trainval", "all")
"""Splits that contain the validation images."""
LABELS = ("targets", "labels", "_labels", "y")
CLASS_NAMES = ("classes", "categories")
STORED_TRANSPOSED = ("EMNIST",)
"""Data sets whose images lie on their side: rows and columns are exchanged."""

Options = Mapping[str, Any]


def torchvision_class(name: str) -> type:
    """Returns a class of torchvision.datasets that takes `root`, and a target for each picture.

    Raises:
        ValueError: There is none of this name, or it cannot be used.
    """
    sets = torchvision.datasets
    known = {kind: getattr(sets, kind) for kind in sets.__all__ if inspect.isclass(getattr(sets, kind))}
    usable = sorted(kind for kind, cls in known.items() if _is_usable(cls))
    if name in usable:
        return known[name]
    if name in ("ImageFolder", "DatasetFolder"):
        raise ValueError(f"data.dataset is {name}; for a folder of your own images give --data ImageFolderDataModule")
    if name in known:
        raise ValueError(f"data.dataset is {name}, which has no images with one label each; give one such as CIFAR100")
    near = difflib.get_close_matches(name.lower(), [kind.lower() for kind in usable], n=1)
    hint = f"; did you mean {next(kind for kind in usable if kind.lower() == near[0])}?" if near else ""
    raise ValueError(f"data.dataset is {name}, which torchvision does not have{hint or '; ' + ', '.join(usable)}")


def parameters(kind: type) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a constructor, and those that it hands over to its bases by `**kwargs`."""
    found: dict[str, inspect.Parameter] = {}
    for cls in kind.__mro__:
        if "__init__" in vars(cls):
            own = inspect.signature(vars(cls)["__init__"]).parameters
            found = {**own, **found}
            if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in own.values()):
                break
    return found


def load_parts(kind: type, root: Path, split: str | None, options: Options) -> dict[str, Any]:
    """Returns the torchvision data sets of train and, if there are any, of val and test; downloads what is missing.

    Raises:
        ValueError: The split or an option is unknown.
        RuntimeError: The data are not there and cannot be downloaded.
        OSError: As RuntimeError, or a file cannot be read.
    """
    known = parameters(kind)
    if "train" in known:
        fixed = {**options} if split is None else {**options, "split": split}
        return {part: _make(kind, root, {**fixed, "train": part == "train"}) for part in ("train", "test")}
    if "split" not in known:
        return {"train": _make(kind, root, options)}
    name = split
    if split is not None:
        train = _make(kind, root, {**options, "split": split})
    else:
        name, train = _first_split(kind, root, options, TRAIN_SPLITS)
        if train is None:
            raise ValueError("there is no split train")
    _, val = _first_split(kind, root, options, [] if name in HAS_ALL_VALIDATION else VAL_SPLITS)
    _, test = _first_split(kind, root, options, [] if name == "all" else ["test"])
    if test is None:
        val, test = None, val
    return {part: found for part, found in (("train", train), ("val", val), ("test", test)) if found is not None}


def images_of(found: Any) -> np.ndarray | None:
    """Returns the images of a data set that has them as one array, uint8 N x H x W (x C); None if it has not."""
    images = getattr(found, "data", None)
    if not isinstance(images, Tensor | np.ndarray):
        return None
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(found):
        return None
    if images.ndim == 4 and images.shape[3] not in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    return images.swapaxes(1, 2) if type(found).__name__ in STORED_TRANSPOSED else images


def labels_of(found: Any) -> np.ndarray | None:
    """Returns the label of each image of a data set that has a list of them; None if it has not."""
    for name in LABELS:
        labels = np.asarray(getattr(found, name, ()))
        if labels.shape == (len(found),) and labels.dtype.kind in "iuUS":
            return labels
    return None


def class_names(found: Any) -> list[str] | None:
    """Returns the names of the labels 0, 1, ... of a data set or of its class; None if it has none."""
    names = next((getattr(found, name) for name in CLASS_NAMES if hasattr(found, name)), None)
    if not isinstance(names, list | tuple):
        return None
    return [str(name[0] if isinstance(name, tuple) else name) for name in names]  # ImageNet's names have synonyms


def _is_usable(kind: type) -> bool:
    """Whether nothing must be given but the folder and the split, and pictures have a target."""
    known = parameters(kind)
    needed = [
        name
        for name, parameter in known.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    ]
    if kind.__name__ in ("ImageFolder", "DatasetFolder") or {*needed} - {"self", "root", "split"}:
        return False
    return "root" in known and "target_transform" in known


def _make(kind: type, root: Path, options: Options) -> Any:
    """Makes a data set of the files that are there; downloads them if some are missing."""
    if "download" not in parameters(kind):
        return kind(root, **options)
    try:
        return kind(root, **options, download=False)
    except (RuntimeError, FileNotFoundError):
        return kind(root, **options, download=True)


def _first_split(kind: type, root: Path, options: Options, names: Sequence[str]) -> tuple[str | None, Any]:
    """Returns the first of these splits that the data set has, with its name."""
    for name in names:
        try:
            return name, _make(kind, root, {**options, "split": name})
        except ValueError as error:
            if "Unknown value" not in str(error):
                raise
    return None, None
