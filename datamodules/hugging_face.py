from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from datamodules.array_images import Fit
from datamodules.base import Split
from datamodules.downloaded_images import DownloadedImagesDataModule, Items, Loaded
from datamodules.files import DataError, downloading
from datamodules.image_reader import Resize

PARTS = {"train": ("train",), "val": ("validation", "valid", "val", "dev"), "test": ("test",)}
LABELS = ("label", "labels", "fine_label", "class", "target")
SECRET = -1
"""Label of images of a test part whose labels are not published."""


class HuggingFaceDataModule(DownloadedImagesDataModule):
    """A data set of images on the Hugging Face hub, or a local one in a format of its package; needs `datasets`.

    The files are downloaded once to `<root>/huggingface`. The images are decoded once, and kept with their final size
    in the folder `cache`. Install the package with `pip install 'genlab[datasets]'`.

    Args:
        dataset: Name of the data set, such as `zalando-datasets/fashion_mnist`, or the path of a folder.
        root: Folder of the data.
        config: Name of the configuration, if the data set has several.
        image: Column of the images. By default the first one.
        label: Column of the labels. By default the first one with class names, or a usual name. Without one all images
            are of one class.
        revision: Version of the data set: a branch, tag or commit.
        size: Height and width in pixels, or one number for both. It must be given.
        resize: How an image of another shape gets the size: `crop` covers it and cuts the longer side in the middle,
            `pad` fits into it and fills the rest with the background's colour, `stretch` changes height and width.
        grayscale: Whether images have one channel instead of three. By default as in the file.
        background: Colour behind transparent pixels and around padded images: a name, such as `black`, or `#rrggbb`.
        cache: Folder in which images of another size are kept. `null`: each process makes them anew.
        val_size: Share (below 1) or number of the training images that are held out for validation, of each class in
            the same share. Not used if the data set has a validation part.
        test_size: Share (below 1) or number of the images that are held out for the test, of each class in the same
            share and in the same way for every seed. Not used if the data set has a test part.
        batch_size: Number of training images in a batch, on each device.
        seed: Seed of the validation split, of the few-shot subset and of the order of the images. The run's own seed by
            default.
        labels_per_class: Number of training images per class for few-shot learning, drawn at random. All by default.
        on_device: Whether the data are kept on the training device. By default they are if they take less than half of
            its free memory.
        shift: Largest random shift of a training image along each axis, in pixels. 0 turns the augmentation off.
        flip: Whether training images are mirrored horizontally at random.
        predict_split: Split that `predict` runs over.
        eval_batch_size: Number of images in a batch of validation, test and predict. Four times `batch_size` by
            default.

    Raises:
        ValueError: An option has a value that no data set allows.
        DataError: From everything else: the package is missing, or the data are not available or cannot be used.

    Examples:
        >>> data = HuggingFaceDataModule("zalando-datasets/fashion_mnist", size=28)  # downloaded when used
        >>> data.name
        'fashion_mnist'
    """

    def __init__(
        self,
        dataset: str,
        root: str = "data",
        config: str | None = None,
        image: str | None = None,
        label: str | None = None,
        revision: str | None = None,
        size: int | tuple[int, int] | None = None,
        resize: Resize = "crop",
        grayscale: bool | None = None,
        background: str = "white",
        cache: str | None = "data/cache",
        val_size: float = 0.1,
        test_size: float = 0.1,
        batch_size: int = 128,
        seed: int | None = None,
        labels_per_class: int | None = None,
        on_device: bool | None = None,
        shift: int = 0,
        flip: bool = False,
        predict_split: Split = "test",
        eval_batch_size: int | None = None,
    ) -> None:
        super().__init__(
            *(root, Fit.of_options(size, grayscale, resize, background), cache),
            *(batch_size, val_size, test_size, seed, labels_per_class, on_device, shift, flip),
            *(predict_split, eval_batch_size),
        )
        self.dataset = dataset
        self.name = dataset.rstrip("/").split("/")[-1].lower() or "images"
        self.config = config
        self.image = image
        self.label = label
        self.revision = revision

    @property
    def stem(self) -> str:
        chosen = (self.dataset, self.config, self.image, self.label, self.revision)
        return "_".join(str(value) for value in chosen if value is not None).strip("./").replace("/", "-").lower()

    @property
    def origin(self) -> str:
        return self.dataset

    def source_files(self) -> list[Path]:
        """Returns the npz file and, of a data set in a local folder, its files."""
        folder = Path(self.dataset)
        return [self.npz, *sorted(path for path in folder.rglob("*") if path.is_file())]

    def load(self) -> Loaded:
        loaded = self._load_dataset()
        found = {part: loaded[name] for part, names in PARTS.items() for name in names if name in loaded}
        if "train" not in found:
            raise DataError(f"{self.dataset} has no part train, but {', '.join(loaded)}; give another data set")
        if "val" in found and "test" not in found:
            found["test"] = found.pop("val")
        image, label, names = self._columns(found["train"].features)
        parts = {part: _Columns(rows, image, label, self.dataset) for part, rows in found.items()}
        train = found["train"]
        known = np.zeros(len(train), np.int64) if label is None else None
        if label is not None and names is not None:
            known = np.asarray(list(train[label]))
        return Loaded(None, parts, names, known)

    def _load_dataset(self) -> Any:
        package, where = self._package, self.root / "huggingface"
        remedy = (
            f"put its files into a folder and give that as --data.dataset, or, for images of one size, put {self.npz}"
            " there (uint8 x_train, y_train, x_test, y_test)"
        )
        with downloading(self.dataset, remedy):
            try:
                return package.load_dataset(
                    self.dataset, self.config, cache_dir=str(where.absolute()), revision=self.revision
                )
            except (ValueError, package.exceptions.DatasetsError, FileNotFoundError) as error:
                # FileNotFoundError of the package: no such data set, or no network
                raise RuntimeError(str(error)) from error

    def _columns(self, features: Any) -> tuple[str, str | None, list[str] | None]:
        """Returns the columns of images and labels, and the names of the classes if there are any."""
        for option, column in (("image", self.image), ("label", self.label)):
            if column is not None and column not in features:
                raise DataError(
                    f"{self.dataset} has no column {column}, but {', '.join(features)}; change data.{option}"
                )
        images = [name for name, kind in features.items() if isinstance(kind, self._package.Image)]
        image = self.image or next(iter(images), "")
        if image not in images:
            raise DataError(f"{self.dataset} has no column of images, but {', '.join(features)}; give another data set")
        named = [name for name, kind in features.items() if isinstance(kind, self._package.ClassLabel)]
        label = self.label or next((name for name in (*named, *LABELS) if name in features), None)
        return image, label, list(features[label].names) if label in named else None

    @cached_property
    def _package(self) -> ModuleType:
        try:
            import datasets
        except ImportError:
            raise DataError("HuggingFaceDataModule needs datasets: pip install 'genlab[datasets]'") from None
        return datasets


class _Columns(Items):
    """A part of a data set as pairs of a picture and a label."""

    def __init__(self, rows: Any, image: str, label: str | None, name: str) -> None:
        self.rows = rows
        self.name = name
        self.image = image
        self.label = label

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> tuple[Any, Any]:
        row = self.rows[index]
        label = None if self.label is None else row[self.label]
        if label is not None and not isinstance(label, int | str):
            raise DataError(
                f"{self.name} has a {type(label).__name__} in the column {self.label}, not one label for each image;"
                " give another one with --data.label"
            )
        return row[self.image], None if label == SECRET else label
