"""An .npz or .npy file of images of one size, with or without labels and parts; nothing in it is unpickled."""

import contextlib
import zipfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from datamodules.files import UNREADABLE, DataError

Layout = Literal["auto", "NHW", "NHWC", "NCHW"]
PARTS = ("train", "val", "test")
NAMES_OF_PARTS = (("x_{}", "y_{}"), ("{}_images", "{}_labels"))
"""Names of images and labels of the parts, as in Keras and in MedMNIST."""
NAMES_OF_IMAGES = ("images", "image", "x", "X", "data", "arr_0")
NAMES_OF_LABELS = ("labels", "label", "y", "Y", "targets", "target", "arr_1")
CLASS_NAMES = ("classes", "class_names")
CHANNELS = (1, 3)
IMAGES_AT_ONCE = 4096


class Header(NamedTuple):
    """Shape and type of a stored array."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Names(NamedTuple):
    """Names of the arrays of one part; None: no labels."""

    images: str
    labels: str | None


class ArrayFile:
    """Images of one size in an .npz or .npy file; only the headers are read until images are asked for.

    Args:
        path: The file.
        images: Name of the array of images in an .npz file. By default the usual names are tried.
        labels: Name of the array of labels in an .npz file, or path of an .npy file with the labels.
        layout: Order of the axes of the images. By default it follows from the shape, which has 1 or 3 channels.

    Raises:
        DataError: From everything else: the file is missing, damaged, or has no images that can be used.
    """

    def __init__(
        self, path: Path, images: str | None = None, labels: str | None = None, layout: Layout = "auto"
    ) -> None:
        self.path = path
        self.images_name = images
        self.labels_name = labels
        self.layout = layout

    @property
    def label_path(self) -> Path | None:
        """The file of the labels, if it is not the file of the images."""
        return Path(self.labels_name).expanduser() if self.labels_name and self.labels_name.endswith(".npy") else None

    @cached_property
    def parts(self) -> dict[str, Names]:
        """The names of the arrays of train and, if there are any, of val and test."""
        if self.images_name is None:
            for image_name, label_name in NAMES_OF_PARTS:
                found = {part: image_name.format(part) for part in PARTS if image_name.format(part) in self.headers}
                if "train" in found:
                    return {part: Names(name, self._present(label_name.format(part))) for part, name in found.items()}
        return {"train": Names(self._image_array(), self._label_array())}

    @cached_property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        shapes = {part: self.headers[names.images].shape for part, names in self.parts.items()}
        for part, shape in shapes.items():
            name = self.parts[part].images
            if self.headers[name].dtype.kind not in "biuf":
                raise DataError(f"{self.path}, {name} is {self.headers[name].dtype}; save images as uint8")
            if 0 in shape:
                raise DataError(f"{self.path}, {name} is empty; its shape is {_shape(shape)}")
            if shape[1:] != shapes["train"][1:]:
                raise DataError(
                    f"{self.path} has images of {_shape(shapes['train'][1:])} and of {_shape(shape[1:])};"
                    " give all images one size"
                )
        sides = dict(zip(self._layout(shapes["train"]), shapes["train"], strict=True))
        return sides.get("C", 1), sides["H"], sides["W"]

    def images(self, part: str, value_range: tuple[float, float] | None = None) -> np.ndarray:
        """Returns the images of a part: uint8, N x H x W x C.

        Args:
            part: One of `parts`.
            value_range: Values of black and white. By default 0 and 255 of integers, 0 and 1 of floats.
        """
        name = self.parts[part].images
        stored = self._array(name)
        layout = self._layout(stored.shape)
        pixels = stored if stored.dtype == np.uint8 and value_range is None else np.empty(stored.shape, np.uint8)
        if pixels is not stored:
            low, high = _range(stored, value_range, f"{self.path}, {name}")
            for first in range(0, len(stored), IMAGES_AT_ONCE):
                rows = slice(first, first + IMAGES_AT_ONCE)
                pixels[rows] = np.rint((stored[rows].clip(low, high) - np.float64(low)) * (255 / (high - low)))
        return pixels[..., None] if layout == "NHW" else pixels.transpose(0, 2, 3, 1) if layout == "NCHW" else pixels

    def labels(self) -> dict[str, np.ndarray] | None:
        """Returns the stored labels of each part; None if there are none."""
        found = {}
        for part, names in self.parts.items():
            if names.labels is None:
                continue
            found[part] = self._array(names.labels)
            shape = self.headers[names.images].shape
            if found[part].shape[:1] != shape[:1]:
                raise DataError(
                    f"{self.path} has {names.images} of shape {_shape(shape)}, but {names.labels} of shape"
                    f" {_shape(found[part].shape)}; give one label for each image"
                )
        if found and len(found) < len(self.parts):
            without = next(names.images for names in self.parts.values() if names.labels is None)
            raise DataError(f"{self.path} has labels, but none for {without}; add them, or give no labels at all")
        return found or None

    def class_names(self) -> list[str] | None:
        """Returns the stored names of the classes; None if there are none."""
        name = next((name for name in CLASS_NAMES if name in self.headers), None)
        return None if name is None else [str(value) for value in self._array(name).ravel().tolist()]

    @cached_property
    def headers(self) -> dict[str, Header]:
        """Shape and type of each array in the file. The only array of an .npy file has the name `images`."""
        if self.path.is_dir():
            raise DataError(f"{self.path} is a folder; give a file, or --data ImageFolderDataModule --data.folder")
        if not self.path.is_file():
            raise DataError(f"there is no file {self.path}; give an .npz or .npy file of images with --data.file")
        with self._errors(self.path):
            if not zipfile.is_zipfile(self.path):
                with self.path.open("rb") as stream:
                    return {"images": _header(stream)}
            headers = {}
            with zipfile.ZipFile(self.path) as file:
                for member in file.namelist():
                    if member.endswith(".npy"):
                        with file.open(member) as stream:
                            headers[member.removesuffix(".npy")] = _header(stream)
            return headers

    def _array(self, name: str) -> np.ndarray:
        if self.label_path is not None and name == self.labels_name:
            with self._errors(self.label_path):
                return np.load(self.label_path, allow_pickle=False)
        with self._errors(self.path):
            loaded = np.load(self.path, mmap_mode="r", allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded as file:
                return file[name]

    @contextlib.contextmanager
    def _errors(self, path: Path) -> Iterator[None]:
        """Makes a DataError of what numpy and zipfile raise."""
        try:
            yield
        except DataError:
            raise
        except PermissionError:
            raise DataError(f"{path} cannot be read (no permission); change its permissions") from None
        except FileNotFoundError:
            raise DataError(f"there is no file {path}; check the path") from None
        except UNREADABLE as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if any(words in reason for words in ("allow_pickle", "Object arrays", "Python objects")):
                raise DataError(
                    f"{path} has pickled Python objects, which are never loaded, as they can run any program;"
                    " save images as one uint8 array, and labels as numbers or strings"
                ) from None
            raise DataError(f"{path} is damaged or not an .npz or .npy file ({reason}); repair or replace it") from None

    def _image_array(self) -> str:
        """Returns the name of the images: the given one, a usual one, or the only array of 3 or 4 axes."""
        if self.images_name is not None:
            return self._named(self.images_name, "images")
        usual = [name for name in NAMES_OF_IMAGES if name in self.headers]
        large = [name for name, header in self.headers.items() if len(header.shape) in (3, 4)]
        if usual or len(large) == 1:
            return (usual or large)[0]
        raise DataError(
            f"{self.path} has no arrays x_train or images, but {self._list()}; name one with --data.images and, if it"
            " has labels, --data.labels"
        )

    def _label_array(self) -> str | None:
        if self.label_path is not None:
            return self.labels_name
        if self.labels_name is not None:
            return self._named(self.labels_name, "labels")
        return next((name for name in NAMES_OF_LABELS if name in self.headers), None)

    def _named(self, name: str, option: str) -> str:
        if name not in self.headers:
            raise DataError(f"{self.path} has no array {name}, but {self._list()}; give another --data.{option}")
        return name

    def _present(self, name: str) -> str | None:
        return name if name in self.headers else None

    def _list(self) -> str:
        return ", ".join(f"{name} ({_shape(header.shape)})" for name, header in self.headers.items()) or "none"

    def _layout(self, shape: tuple[int, ...]) -> str:
        """Returns the order of the axes. Raises DataError if it is not plain and not given, or does not fit."""
        axes = "x".join(map(str, shape))
        if len(shape) not in (3, 4):
            raise DataError(f"{self.path} has an array of {axes}; images are N x H x W, N x H x W x C or N x C x H x W")
        if self.layout != "auto" and len(self.layout) != len(shape):
            raise DataError(f"{self.path} has images of {axes}, which is not {self.layout}; give another --data.layout")
        if len(shape) == 3:
            return "NHW"
        last, second = shape[3] in CHANNELS, shape[1] in CHANNELS
        if self.layout == "auto" and last == second:
            problem = "either axis can be the channels" if last else "no axis has 1 or 3 channels"
            raise DataError(
                f"{self.path} has images of {axes}, where {problem};"
                + (" give --data.layout NHWC or NCHW" if last else " give grey (1) or RGB (3) images")
            )
        layout = self.layout if self.layout != "auto" else "NHWC" if last else "NCHW"
        channels = shape[layout.index("C")]
        if channels not in CHANNELS:
            raise DataError(f"{self.path} has images of {axes}, with {channels} channels in {layout}; give 1 or 3")
        return layout


def _header(stream: object) -> Header:
    version = np.lib.format.read_magic(stream)  # type: ignore[arg-type]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)  # type: ignore[arg-type]
    return Header(shape, dtype)


def _range(stored: np.ndarray, given: tuple[float, float] | None, where: str) -> tuple[float, float]:
    """Returns the values of black and white: the given ones, or 0 and 255 of integers, 0 and 1 of floats."""
    kind = stored.dtype.kind
    parts = [stored[first : first + IMAGES_AT_ONCE] for first in range(0, len(stored), IMAGES_AT_ONCE)]
    low, high = min(float(part.min()) for part in parts), max(float(part.max()) for part in parts)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"{where} has pixels that are no finite numbers; repair them")
    if given is not None:
        return given
    white = 255 if kind in "iu" else 1
    if low < 0 or high > white or (kind in "iu" and 0 < high <= 1):
        raise DataError(
            f"{where} is {stored.dtype} with the values {low:g} to {high:g}, not 0 to {white};"
            " give the values of black and white with --data.value_range, such as '[-1, 1]'"
        )
    return 0, white


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single value"
