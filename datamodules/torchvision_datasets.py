from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from datamodules.array_images import Fit
from datamodules.base import Split
from datamodules.downloaded_images import DownloadedImagesDataModule, Items, Loaded
from datamodules.files import KEYS, DataError, downloading
from datamodules.image_reader import Resize
from datamodules.torchvision_sets import class_names, images_of, labels_of, load_parts, parameters, torchvision_class

TAKEN = ("root", "split", "train", "download", "transform", "target_transform", "transforms", "loader")
"""Arguments of torchvision's classes that are not set by `options`."""


class TorchvisionDataModule(DownloadedImagesDataModule):
    """A data set of torchvision with one label for each picture, such as FashionMNIST, SVHN, CIFAR100 or Flowers102.

    The files that torchvision needs are downloaded to `root` if they are not there; torchvision checks them. Data sets
    of images of one size are kept as `<root>/<name>.npz`, which is read without torchvision's files if it is there.
    Pictures of varying size, and images for which `size` or `grayscale` is given, are decoded once and kept with their
    final size in the folder `cache`. A test or validation part that torchvision has is used; others are held out.

    Args:
        dataset: Name of the class in torchvision.datasets.
        root: Folder of the data.
        split: Value of torchvision's argument `split` for the training images: for EMNIST `balanced`, `letters` and so
            on, for others such as SVHN's `extra`. By default `train`, or the nearest that there is.
        attribute: Name or position of the label to use if an image has several, such as CelebA's `Smiling`.
        labels: Whether labels are used. With `false` all images are of one class.
        options: Other arguments of the class, such as `{target_type: identity}`.
        size: Height and width in pixels, or one number for both. Pictures of varying size need it. By default images
            keep their size.
        resize: How an image of another shape gets the size: `crop` covers it and cuts the longer side in the middle,
            `pad` fits into it and fills the rest with the background's colour, `stretch` changes height and width.
        grayscale: Whether images have one channel instead of three. By default as in the file.
        background: Colour behind transparent pixels and around padded images: a name, such as `black`, or `#rrggbb`.
        cache: Folder in which decoded images are kept. `null`: each process decodes them anew.
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
        ValueError: The data set is unknown, or an option has a value that it does not allow.
        DataError: From everything else: the data are not available, or cannot be used.

    Examples:
        >>> data = TorchvisionDataModule("FashionMNIST")  # downloaded, or `data/fashionmnist.npz` is read, when used
        >>> data.name
        'fashionmnist'
    """

    def __init__(
        self,
        dataset: str,
        root: str = "data",
        split: str | None = None,
        attribute: int | str | None = None,
        labels: bool = True,
        options: dict[str, Any] | None = None,
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
        self._kind = torchvision_class(dataset)
        self.options = dict(options or {})
        known = parameters(self._kind)
        needs_split = "split" in known and known["split"].default is known["split"].empty
        if split is None and needs_split:
            splits = ", ".join(getattr(self._kind, "splits", ()))
            raise ValueError(f"data.split is missing; {dataset} needs one of {splits or 'its splits'}")
        if taken := [name for name in TAKEN if name in self.options]:
            raise ValueError(f"data.options has {taken[0]}; leave it out, or use the option of its own")
        unknown = [name for name in (*self.options, *(["split"] if split else [])) if name not in known]
        if unknown:
            raise ValueError(f"data.{unknown[0]} is given, but {dataset} has no argument {unknown[0]}; leave it out")
        self.dataset = dataset
        self.split = split
        self.attribute = attribute
        self.labels = labels
        self.name = dataset.lower()

    @property
    def stem(self) -> str:
        chosen = [] if self.split is None else [self.split]
        chosen += [f"{name}={value}" for name, value in sorted(self.options.items())]
        chosen += [] if self.attribute is None else [f"attribute={self.attribute}"]
        return "_".join([self.name, *chosen, *([] if self.labels else ["unlabelled"])]).replace("/", "-")

    @property
    def origin(self) -> str:
        return f"{self.dataset} in {self.root}"

    def default_class_names(self) -> Sequence[str] | None:
        return class_names(self._kind)

    def load(self) -> Loaded:
        remedy = (
            f"put the files that torchvision's {self.dataset} reads into {self.root}, or, for images of one size,"
            f" {self.npz} (uint8 {', '.join(KEYS)})"
        )
        with downloading(self.dataset, remedy):
            try:
                parts = load_parts(self._kind, self.root, self.split, self.options)
            except (ValueError, TypeError) as error:
                reason = " ".join(str(error).split()).rstrip(".")
                raise DataError(
                    f"torchvision's {self.dataset}: {reason}; change --data.split or --data.options, or put the files"
                    f" that it reads into {self.root}"
                ) from error
        other_target = self.attribute is not None or any(name.startswith("target_type") for name in self.options)
        names = None if other_target else class_names(parts["train"])
        images = {part: images_of(found) for part, found in parts.items()}
        if all(of_part is not None for of_part in images.values()):
            arrays = {f"x_{part}": of_part for part, of_part in images.items() if of_part is not None}
            if self.labels:
                arrays |= {f"y_{part}": self._labels_of(found) for part, found in parts.items()}
            return Loaded(arrays=arrays, class_names=names)
        known = labels_of(parts["train"]) if self.labels and self.attribute is None else None
        known = known if self.labels else np.zeros(len(parts["train"]), np.int64)
        return Loaded(None, {part: _Labelled(found, self) for part, found in parts.items()}, names, known)

    def _labels_of(self, found: Any) -> np.ndarray:
        """Returns the label of each image of a data set that has an array of images."""
        labels = labels_of(found) if self.attribute is None else None
        if labels is None:
            return np.asarray([self.label_of(found, found[index][1]) for index in range(len(found))])
        return labels

    def label_of(self, found: Any, target: Any) -> int | str | None:
        """Returns the label of an image, which may have several; None: labels are not used or not known."""
        if not self.labels or target is None:
            return None
        value = target.tolist() if isinstance(target, Tensor | np.ndarray | np.generic) else target
        names = list(getattr(found, "attr_names", ()))
        if isinstance(value, list | tuple) and self.attribute is not None:
            known = self.attribute in names or (isinstance(self.attribute, int) and 0 <= self.attribute < len(value))
            if known:
                return value[names.index(self.attribute) if self.attribute in names else int(self.attribute)]
            choices = ", ".join(filter(None, names)) or f"0 to {len(value) - 1}"
            raise DataError(f"{self.dataset} has no label {self.attribute}; give one of {choices} as --data.attribute")
        if not isinstance(value, int | str):
            size = f" of {len(value)}" if isinstance(value, list | tuple) else ""
            raise DataError(
                f"{self.dataset} has a {type(value).__name__}{size} for each image, not one label; choose one with"
                " --data.attribute (as Smiling of CelebA), or train without labels: --data.labels false"
            )
        return value


class _Labelled(Items):
    """A data set of torchvision as pairs of a picture and one label."""

    def __init__(self, found: Any, data: TorchvisionDataModule) -> None:
        self.found = found
        self.data = data

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: int, /) -> tuple[Any, Any]:
        item = self.found[index]
        if not isinstance(item, tuple) or len(item) != 2:
            raise DataError(f"{self.data.dataset} has no pairs of a picture and a label; give another data set")
        return item[0], self.data.label_of(self.found, item[1])
