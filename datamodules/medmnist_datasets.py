import difflib
import tempfile
from functools import cached_property
from types import ModuleType
from typing import Any

from datamodules.array_file import ArrayFile
from datamodules.array_images import Fit
from datamodules.base import Split
from datamodules.downloaded_images import DownloadedImagesDataModule, Loaded
from datamodules.files import DataError, downloading
from datamodules.image_reader import Resize

RESOLUTIONS = (28, 64, 128, 224)


class MedMNISTDataModule(DownloadedImagesDataModule):
    """A data set of MedMNIST, medical images of 28 to 224 pixels in classes (Yang et al. 2023); needs `medmnist`.

    They have a training, a validation and a test part, and are downloaded once to `root`. Those of three-dimensional
    images and of several labels for an image (ChestMNIST) cannot be used. Install the package with
    `pip install 'genlab[medmnist]'`.

    Args:
        dataset: Name of the data set, such as `pathmnist`.
        root: Folder of the data. A file `<dataset>.npz` or, for more than 28 pixels, `<dataset>_64.npz` and so on is
            used if it is there.
        resolution: Size of the images that are downloaded: 28, 64, 128 or 224.
        size: Height and width in pixels, or one number for both. By default images keep theirs.
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
        DataError: From everything else: the package is missing, or the data are unknown, not available, or cannot be
            used.

    Examples:
        >>> data = MedMNISTDataModule("pathmnist")  # downloaded, or `data/pathmnist.npz` is read, when used
        >>> data.name
        'pathmnist'
    """

    def __init__(
        self,
        dataset: str,
        root: str = "data",
        resolution: int = 28,
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
        if resolution not in RESOLUTIONS:
            raise ValueError(f"data.resolution is {resolution}; it is one of {', '.join(map(str, RESOLUTIONS))}")
        self.name = dataset.lower()
        self.resolution = resolution

    @property
    def stem(self) -> str:
        return self.name if self.resolution == RESOLUTIONS[0] else f"{self.name}_{self.resolution}"

    @property
    def origin(self) -> str:
        return f"{self.name} in {self.root}"

    def default_class_names(self) -> list[str]:
        names = self._info["label"]
        return [names[str(number)] for number in range(len(names))]

    def load(self) -> Loaded:
        remedy = f"put the file of MedMNIST there: {self.npz} ({self._info.get('url', '')})"
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.root, prefix=f".{self.stem}.part-") as folder:
            with downloading(self.name, remedy):
                self._download(folder)
            file = ArrayFile(self.root / folder / self.npz.name)
            labels = file.labels() or {}
            arrays = {f"x_{part}": file.images(part) for part in file.parts}
            return Loaded(arrays | {f"y_{part}": labels[part] for part in file.parts}, None, self.default_class_names())

    def _download(self, folder: str) -> None:
        kind = getattr(self._package, self._info["python_class"])
        try:
            kind(split="test", root=folder, download=True, size=self.resolution)
        except RuntimeError as error:  # its message has many lines
            raise RuntimeError(str(error.__context__ or error)) from error

    @cached_property
    def _package(self) -> ModuleType:
        try:
            import medmnist
        except ImportError:
            raise DataError("MedMNISTDataModule needs medmnist: pip install 'genlab[medmnist]'") from None
        return medmnist

    @cached_property
    def _info(self) -> dict[str, Any]:
        """What the package says about the data set. Raises DataError if there is none or it cannot be used."""
        known = self._package.INFO
        usable = sorted(name for name, info in known.items() if not _problem(name, info))
        if self.name not in known:
            near = difflib.get_close_matches(self.name, usable, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(usable)}"
            raise DataError(f"data.dataset is {self.name}, which MedMNIST does not have; {hint}")
        if problem := _problem(self.name, known[self.name]):
            raise DataError(f"{self.name} has {problem}, which cannot be used; give one of {', '.join(usable)}")
        return known[self.name]


def _problem(name: str, info: dict[str, Any]) -> str | None:
    """Returns why a data set has no images of one class each; None if it has."""
    if "multi-label" in info["task"]:
        return "several labels for an image"
    return "three-dimensional images" if name.endswith("3d") else None
