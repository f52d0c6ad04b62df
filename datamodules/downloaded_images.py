"""Base of data modules of data sets that a package downloads: kept as an npz file, or decoded in a cache on disk."""

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image

from datamodules import cache as process_cache
from datamodules.array_file import ArrayFile
from datamodules.array_images import ArrayImages, Fit, fitted
from datamodules.class_labels import UNLABELLED, number_labels
from datamodules.decoded_cache import Allocate, Decoded, decoded
from datamodules.files import Arrays, DataError, load_or_fetch
from datamodules.image_reader import progress_bar
from datamodules.user_images import UserImagesDataModule


class Items(Protocol):
    """A part of a data set: pairs of a picture and its label."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, Any]: ...


class Chosen(Items):
    """Some of the items of a part.

    Args:
        items: The part.
        index: Positions of the items.
    """

    def __init__(self, items: Items, index: Sequence[int]) -> None:
        self.items = items
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int, /) -> tuple[Any, Any]:
        return self.items[self.index[index]]


class Loaded(NamedTuple):
    """A data set of a package.

    `arrays` has the images if they have one size: x_train, y_train and so on, uint8 N x H x W (x C).
    Otherwise `parts` has pictures of varying size, which are decoded when they are asked for, and their labels: a
    number, a string, or None. `class_names` are the names of the labels 0, 1, ... `train_labels` are the labels of the
    training pictures if they are known without decoding these: a test part can be held out before, not in memory.
    """

    arrays: Arrays | None = None
    parts: Mapping[str, Items] | None = None
    class_names: Sequence[str] | None = None
    train_labels: np.ndarray | None = None


class DownloadedImagesDataModule(UserImagesDataModule):
    """Base of data modules of data sets that a package downloads.

    Without `size` and `grayscale` they are kept as `<root>/<stem>.npz`, which is read without the package when it is
    there; with them, or if the pictures have no common size, with their final size in the folder `cache`.

    A subclass defines `load()`, `stem` and `origin`.

    Args:
        root: Folder of the data.
        fit: Size and channels of the images.
        cache: Folder of the images of their final size.
        options: The options of `UserImagesDataModule` after `root`, in their order.
    """

    used_after_reading = UserImagesDataModule.used_after_reading | {"cache"}

    def __init__(self, root: str, fit: Fit, cache: str | None, *options: Any) -> None:
        super().__init__(root, *options)
        fit.reader(1)  # checks the options
        self.fit = fit
        self.cache = None if cache is None else Path(cache).expanduser()

    @abstractmethod
    def load(self) -> Loaded:
        """Downloads the data if necessary, and returns them."""

    @property
    def stem(self) -> str:
        """Stem of the npz file. It differs for all options that change the images which are downloaded."""
        return self.name

    @property
    def npz(self) -> Path:
        return self.root / f"{self.stem}.npz"

    @property
    def image_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        if isinstance(self._opened, ArrayImages):
            return self._opened.image_shape
        _, height, width, channels = self._opened.arrays["x_train"].shape
        return channels, height, width

    def class_names(self) -> tuple[str, ...]:
        opened = self._opened
        return opened.classes if isinstance(opened, ArrayImages) else tuple(opened.notes["classes"])

    def default_class_names(self) -> Sequence[str] | None:
        """Names of the labels 0, 1, ... of an npz file that has none."""
        return None

    def source_files(self) -> list[Path]:
        return [self.npz]

    def read(self) -> Arrays:
        opened = self._opened
        return self.with_test_part(opened.read() if isinstance(opened, ArrayImages) else opened.arrays)

    @cached_property
    def _opened(self) -> ArrayImages | Decoded:
        """The data, which are downloaded and written when they are first used."""
        if self.fit.size is None and self.fit.grayscale is None:
            if not self.npz.exists():
                load_or_fetch(self.root, self.stem, self._fetch, lambda arrays: None)
            return self._array_images()
        state = process_cache.state_of_files(self.source_files())
        return decoded(self.cache, self.stem, self._options(), state, self._write)

    def _array_images(self) -> ArrayImages:
        return ArrayImages(ArrayFile(self.npz), self.fit, class_names=self.default_class_names())

    def _options(self) -> dict[str, Any]:
        """All that changes the images but the npz file: every argument of the constructor that `read` uses."""
        return {"class": type(self).__name__, **self._reading_arguments(), "root": str(self.root.absolute())}

    def _fetch(self, scratch: Path) -> Arrays:
        return self._loaded_arrays(self.load())

    def _loaded_arrays(self, loaded: Loaded) -> Arrays:
        """Returns the arrays of the npz file: images, labels 0 .. K-1 and the names of the classes."""
        if loaded.arrays is None:
            raise DataError(
                f"{self.origin} has pictures, which may differ in size; give one with --data.size, such as 64"
            )
        arrays = dict(loaded.arrays)
        stored = {name.removeprefix("y_"): arrays[name] for name in arrays if name.startswith("y_")}
        if not stored:
            zeros = {f"y_{name[2:]}": np.zeros(len(images), np.int64) for name, images in arrays.items()}
            return arrays | zeros | {"classes": np.array(UNLABELLED)}
        labels, classes = number_labels(stored, self.origin, loaded.class_names)
        return arrays | {f"y_{part}": of_part for part, of_part in labels.items()} | {"classes": np.array(classes)}

    def _write(self, allocate: Allocate) -> dict[str, Any]:
        """Writes the images in their final size."""
        if self.npz.exists():
            images = self._array_images()
            arrays, classes = images.read(), images.classes
        else:
            loaded = self.load()
            if loaded.parts is not None:
                return self._decode(self._with_test_pictures(loaded), loaded.class_names, allocate)
            arrays = self._loaded_arrays(loaded)
            classes = tuple(arrays["classes"].tolist())
        for part in [name.removeprefix("x_") for name in arrays if name.startswith("x_")]:
            pixels = arrays[f"x_{part}"]
            pixels = pixels[..., None] if pixels.ndim == 3 else pixels
            shape = self.fit.image_shape((pixels.shape[3], *pixels.shape[1:3]))
            filled, labels = allocate(part, len(pixels), *shape[1:], shape[0])
            filled[:], labels[:] = fitted(pixels, shape, self.fit, Path(self.origin)), arrays[f"y_{part}"]
        return {"classes": classes}

    def _with_test_pictures(self, loaded: Loaded) -> dict[str, Items]:
        """Returns the parts whose labels are known; pictures of the test are held out if that is possible here."""
        assert loaded.parts is not None
        train = loaded.parts["train"]
        parts = {name: items for name, items in loaded.parts.items() if name == "train" or _has_labels(items, train)}
        if "test" not in parts and loaded.train_labels is not None:
            _, labels = np.unique(loaded.train_labels, return_inverse=True)
            stay, held = self.hold_out_test(torch.from_numpy(labels.astype(np.int64)))
            parts |= {"train": Chosen(train, stay.tolist()), "test": Chosen(train, held.tolist())}
        return parts

    def _decode(
        self, parts: Mapping[str, Items], class_names: Sequence[str] | None, allocate: Allocate
    ) -> dict[str, Any]:
        """Decodes pictures in threads; returns the names of the classes."""
        first = self._opened_image(parts["train"][0][0])
        size = self.fit.size or (first.height, first.width)
        channels, height, width = self.fit.image_shape((len(first.getbands()), *size))
        channels = channels if self.fit.grayscale is not None or channels == 1 else 3
        reader = self.fit.reader(channels)
        found: dict[str, list[Any]] = {}
        filled: Arrays = {}

        def decode(part: str, index: int, pixels: np.ndarray) -> Any:
            name = Path(f"{self.origin}, {part} image {index}")
            try:
                picture, label = parts[part][index]
                pixels[:] = reader.fit(self._opened_image(picture), name, (height, width))
            except DataError:
                raise
            except Exception as error:  # Pillow's readers raise many kinds of errors on damaged files
                reason = " ".join(str(error).split()) or type(error).__name__
                raise DataError(f"{name} cannot be read ({reason}); repair or download it again") from error
            return label

        with progress_bar(sum(map(len, parts.values()))) as advance, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for part, items in parts.items():
                images, filled[part] = allocate(part, len(items), height, width, channels)
                found[part] = []
                numbers = range(len(items))
                for label in pool.map(decode, [part] * len(items), numbers, images):
                    found[part].append(label)
                    advance(1)
        if found["train"][0] is None:
            return {"classes": UNLABELLED}
        labels, classes = number_labels({k: np.asarray(v) for k, v in found.items()}, self.origin, class_names)
        for part, of_part in labels.items():
            filled[part][:] = of_part
        return {"classes": classes}

    def _opened_image(self, picture: Any) -> Image.Image:
        return picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))


def _has_labels(items: Items, train: Items) -> bool:
    """Whether the labels of a part are known; those of a test part may be kept secret."""
    return len(items) > 0 and (train[0][1] is None or items[0][1] is not None)
