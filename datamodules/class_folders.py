"""Folders of image files with a sub-folder for each class: which files there are, of which part and of which class."""

from collections.abc import Collection, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from datamodules.files import DataError
from datamodules.image_files import find_images, folders_in, images_in, is_folder

PART_NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Names of the folders of each part; the first one is used that exists."""
ONE_CLASS = "image"
"""Name of the class of a folder without classes."""
IGNORED = ("__MACOSX",)


class LabelledFiles(NamedTuple):
    """Image files and the numbers of their classes."""

    paths: list[Path]
    labels: list[int]


class ClassFolders(NamedTuple):
    """Names of the classes, and the files of each part that the folder has; `train` is always there."""

    classes: tuple[str, ...]
    parts: dict[str, LabelledFiles]


def find_class_folders(folder: Path) -> ClassFolders:
    """Lists a folder of one of these forms: a sub-folder for each class; images; or `train`, `val` and `test` of these.

    `val` and `test` may be missing. Classes are sorted by name. Images in folders below that of a class belong to it.

    Raises:
        DataError: The folder is of no such form, or a class has no images.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("dog/a.png", "cat/b.png", "cat/c.png"):
        ...     (folder / name).parent.mkdir(exist_ok=True)
        ...     (folder / name).touch()
        >>> found = find_class_folders(folder)
        >>> found.classes, found.parts["train"].labels
        (('cat', 'dog'), [0, 0, 1])
    """
    if not is_folder(folder):
        raise DataError(f"{folder} is not a folder; give a folder of images with --data.folder")
    folders = _part_folders(folder)
    by_class = {part: _images_by_class(where) for part, where in folders.items()}
    classes = tuple(by_class["train"])
    for part, found in by_class.items():
        unknown = next((name for name in found if name not in classes), None)
        if unknown is not None:
            raise DataError(
                f"{folders[part]} has the class {unknown}, but the classes of {folders['train']} are"
                f" {_shortened(classes)}; give both the same sub-folders, or none (the class {ONE_CLASS})"
            )
    return ClassFolders(classes, {part: _labelled(found, classes) for part, found in by_class.items()})


def _part_folders(folder: Path) -> dict[str, Path]:
    """Returns the folder of each part; that of `train` is the folder itself if it has no parts."""
    folders = {path.name: path for path in _folders(folder)}
    parts = {
        part: next(folders[name] for name in names if name in folders)
        for part, names in PART_NAMES.items()
        if not folders.keys().isdisjoint(names)
    }
    others = [path for path in folders.values() if path not in parts.values()]
    if not parts or ("train" not in parts and others):
        return {"train": folder}
    if "train" not in parts:
        raise DataError(
            f"{folder} has {_names(parts.values())} but no train; put the training images in {folder / 'train'}"
        )
    beside = [path for path in others if images_in(path)]
    if beside:
        raise DataError(
            f"{folder} has {_names(beside)} beside train, so that it is not clear whether train is a class or a part;"
            " rename train if it is a class, or move the others away"
        )
    return parts


def _images_by_class(folder: Path) -> dict[str, list[Path]]:
    """Returns the images of each class, by its name."""
    folders = _folders(folder)
    if not folders:
        return {ONE_CLASS: find_images(folder)}
    if images_in(folder):
        raise DataError(
            f"{folder} has images beside the folders {_names(folders)}; put them into folders of classes, or move the"
            " folders away if there are no classes"
        )
    if len(folders) == 1 and not images_in(folders[0]) and _folders(folders[0]):
        raise DataError(f"{folder} has no images but a folder; give --data.folder {folders[0]}")
    by_class = {path.name: images_below(path) for path in folders}
    for path in folders:
        if not by_class[path.name]:
            raise DataError(
                f"{path} is a class without images; put image files there, such as .png or .jpg, or remove it"
            )
    return by_class


def images_below(folder: Path) -> list[Path]:
    """Returns the images of a folder and of the folders below it, sorted by path, without hidden ones.

    Raises:
        DataError: A folder cannot be read, or is there twice by a link.
    """
    images: list[Path] = []
    waiting, seen = [folder], set()
    while waiting:
        here = waiting.pop()
        if here.resolve() in seen:
            raise DataError(f"{here} is a link to a folder whose images are in {folder} already; remove the link")
        seen.add(here.resolve())
        images += images_in(here)
        waiting += _folders(here)
    return images if len(seen) == 1 else sorted(images)


def _folders(folder: Path) -> list[Path]:
    return [path for path in folders_in(folder) if path.name not in IGNORED]


def _labelled(found: dict[str, list[Path]], classes: tuple[str, ...]) -> LabelledFiles:
    of_class = [found.get(name, []) for name in classes]
    return LabelledFiles([*chain(*of_class)], [label for label, paths in enumerate(of_class) for _ in paths])


def _names(paths: Collection[Path]) -> str:
    return _shortened([path.name for path in paths])


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
