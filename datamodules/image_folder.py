import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.base import Split
from datamodules.class_folders import ClassFolders, LabelledFiles, find_class_folders
from datamodules.counter_rng import uniform
from datamodules.decoded_cache import LEFT_OUT, NOTES, Allocate, Decoded, decoded
from datamodules.files import Arrays, DataError
from datamodules.image_files import MAX_PIXELS, check_memory, check_size
from datamodules.image_reader import ImageReader, Resize, ValueRange
from datamodules.loader import Batch, BatchTransform
from datamodules.transforms import windows
from datamodules.user_images import UserImagesDataModule

NAMED = 3
"""Number of the images left out that a message names."""


class ImageFolderDataModule(UserImagesDataModule):
    """A folder of your own images with a sub-folder for each class, or without classes.

    The folder has a sub-folder for each class; or images only, which are one class, `image`; or folders `train`, `val`
    and `test`, each of one of these forms. If there is no `val` or no `test`, a part of the training images is held
    out, of each class in the same share. Formats are PNG, JPEG, WebP, TIFF and others that Pillow reads.

    The images are read once, in several processes, and kept with their final size in the folder `cache`, 1 byte for
    each pixel and channel. They are read again if a file or an option of reading changes, and the older ones are
    removed. The cache may be deleted at any time.

    Args:
        folder: Folder with the images.
        size: Height and width in pixels, or one number for both.
        resize: How an image of another shape gets the size: `crop` resizes the shorter side and cuts the longer one in
            the middle, `pad` resizes the longer side and fills up with `background`, `stretch` resizes each side.
        grayscale: Whether images are read with one channel instead of three.
        background: Colour behind transparent pixels and around padded images: a name, such as `black`, or `#rrggbb`.
        flip: Whether training images are mirrored horizontally at random.
        shift: Largest random shift of a training image along each axis, in pixels. 0 turns the augmentation off.
        random_crop: Number of pixels by which images are read larger than `size` on both axes. In training a window of
            `size` is cut out at a random place, elsewhere in the middle. 0 turns the augmentation off.
        val_size: Share (below 1) or number of the training images that are held out for validation. Not used if there
            is a folder `val`.
        test_size: Share (below 1) or number of the images that are held out for the test, the same for every seed. Not
            used if there is a folder `test`.
        labels_per_class: Number of training images per class for few-shot learning, drawn at random. All by default.
        skip_broken: Whether files that cannot be read are left out and listed. By default the first one is an error.
        value_range: Values of black and white in images of more than 8 bits, such as `[0, 4095]` for 12 bits. By
            default the range of the file type: 0 to 65535 for 16 bits, 0 to 1 for floats.
        max_pixels: Largest number of pixels of an image file; larger ones are refused before they are decoded.
        cache: Folder in which the images are kept when they have been read. `null`: they are read anew by each process,
            and kept in its memory only.
        batch_size: Number of training images in a batch, on each device.
        seed: Seed of the validation split, of the few-shot subset and of the order of the images. The run's own seed by
            default.
        on_device: Whether the data are kept on the training device. By default they are if they take less than half of
            its free memory.
        predict_split: Split that `predict` runs over.
        eval_batch_size: Number of images in a batch of validation, test and predict. Four times `batch_size` by
            default.

    Raises:
        ValueError: An option has a value that no folder allows.
        DataError: From `classes`, `prepare_data` and `setup`: folders or images are missing, too few or not readable.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for k in range(20):
        ...     (folder / ("cat", "dog")[k % 2]).mkdir(exist_ok=True)
        ...     Image.new("RGB", (80, 60)).save(folder / ("cat", "dog")[k % 2] / f"{k}.png")
        >>> data = ImageFolderDataModule(str(folder), size=32, cache=None)
        >>> images, labels = data.examples("train", 4)
        >>> images.shape, data.classes
        (torch.Size([4, 3, 32, 32]), ('cat', 'dog'))
    """

    used_after_reading = UserImagesDataModule.used_after_reading | {"cache"}

    def __init__(
        self,
        folder: str,
        size: int | tuple[int, int] = 64,
        resize: Resize = "crop",
        grayscale: bool = False,
        background: str = "white",
        flip: bool = False,
        shift: int = 0,
        random_crop: int = 0,
        val_size: float = 0.1,
        test_size: float = 0.1,
        labels_per_class: int | None = None,
        skip_broken: bool = False,
        value_range: ValueRange | None = None,
        max_pixels: int = MAX_PIXELS,
        cache: str | None = "data/cache",
        batch_size: int = 64,
        seed: int | None = None,
        on_device: bool | None = None,
        predict_split: Split = "test",
        eval_batch_size: int | None = None,
    ) -> None:
        super().__init__(
            *(folder, batch_size, val_size, test_size, seed, labels_per_class, on_device, shift, flip, predict_split),
            eval_batch_size,
        )
        if random_crop < 0:
            raise ValueError(f"data.random_crop is {random_crop}; it must be at least 0")
        height, width = check_size(size, max_pixels)
        self._reader = ImageReader(grayscale, value_range, max_pixels, resize=resize, background=background)
        self._stored_size = height + random_crop, width + random_crop
        self.image_shape = (1 if grayscale else 3, height, width)
        self.name = self.root.absolute().name or "images"
        self.random_crop = random_crop
        self.skip_broken = skip_broken
        self.cache = None if cache is None else Path(cache).expanduser()
        if self.cache is not None and self.cache.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(f"data.cache is {cache}, inside data.folder; give a folder outside of it, or null")

    def class_names(self) -> tuple[str, ...]:
        return self._found.classes

    def source_files(self) -> list[Path]:
        """Returns the files of all parts, whose paths tell the part and the class of each file."""
        return [path for files in self._found.parts.values() for path in files.paths]

    def source_state(self) -> str:
        return self._state

    def read(self) -> Arrays:
        made = decoded(self.cache, self.name, self._options(), self.source_state(), self._write)
        self._report_left_out(made)
        return made.arrays

    def batch_transform(self, split: Split) -> BatchTransform | None:
        """Returns the function that cuts the window of `random_crop`."""
        most, size, seed = self.random_crop, self.image_shape[1:], self._transform_seed(split)
        if not most:
            return None

        def cut(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            if split == "train":
                top, left = (uniform(seed, epoch, index, 2) * (most + 1)).long().clamp_(max=most).unbind(1)
            else:
                top = left = torch.full_like(index, most // 2)
            return windows(images, top, left, size), labels

        return cut

    @cached_property
    def _found(self) -> ClassFolders:
        """The image files, listed when they are first used."""
        return find_class_folders(self.root)

    @cached_property
    def _state(self) -> str:
        """The state of these files when it is first used. Reading does not change it."""
        return super().source_state()

    def _options(self) -> dict[str, Any]:
        """All that changes the images but the files: every argument of the constructor that `read` uses."""
        return {"class": type(self).__name__, **self._reading_arguments(), "folder": str(self.root.absolute())}

    def _write(self, allocate: Allocate) -> dict[str, Any]:
        """Reads the images of all parts; returns the reasons for which files were left out, by their paths."""
        parts = self._parts()
        channels, size = self.image_shape[0], self._stored_size
        if self.cache is None:
            check_memory(sum(len(files.paths) for files in parts.values()), (channels, *size))
        made = {part: allocate(part, len(files.paths), *size, channels) for part, files in parts.items()}
        try:
            left_out = self._reader.read_into(
                [(of.paths, made[part][0]) for part, of in parts.items()], self.skip_broken
            )
        except DataError as error:
            raise DataError(f"{error}, or leave out such files with --data.skip_broken true") from error
        labels = np.array([label for files in parts.values() for label in files.labels])
        self._check_classes(labels, left_out)
        labels[list(left_out)] = LEFT_OUT
        for part, of_part in zip(parts, np.split(labels, np.cumsum([len(y) for _, y in made.values()])), strict=False):
            made[part][1][:] = of_part
        paths = [path for files in parts.values() for path in files.paths]
        return {"left_out": {str(paths[position]): reason for position, reason in left_out.items()}}

    def _parts(self) -> dict[str, LabelledFiles]:
        """Returns the files of each part; those of the test are held out if there is no folder of them."""
        parts = dict(self._found.parts)
        if "test" not in parts:
            paths, labels = parts["train"]
            for part, index in zip(("train", "test"), self.hold_out_test(torch.tensor(labels)), strict=True):
                parts[part] = LabelledFiles([paths[k] for k in index.tolist()], [labels[k] for k in index.tolist()])
        return parts

    def _check_classes(self, labels: np.ndarray, left_out: dict[int, str]) -> None:
        """Raises DataError if every image of a class was left out."""
        kept = np.bincount(np.delete(labels, list(left_out)), minlength=self.num_classes)
        for label in np.flatnonzero(kept == 0):
            reason = next(reason for position, reason in left_out.items() if labels[position] == label)
            raise DataError(f"no image of the class {self.classes[label]} in {self.root} can be read; {reason}")

    def _report_left_out(self, made: Decoded) -> None:
        left_out = list(made.notes["left_out"])
        if left_out:
            total = len(left_out) + sum(len(array) for name, array in made.arrays.items() if name[0] == "y")
            names = ", ".join(left_out[:NAMED]) + (", ..." if len(left_out) > NAMED else "")
            where = f"; {made.path / NOTES} has all of them with the reasons" if made.path else ""
            print(
                f"{self.root}: images that cannot be read are left out, {len(left_out):,} of {total:,}: {names}{where}",
                file=sys.stderr,
                flush=True,
            )
