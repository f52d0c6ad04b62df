from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from datamodules import procedural_images
from datamodules.base import ImageDataModule, Split
from datamodules.files import Arrays, DataError
from datamodules.image_files import MAX_PIXELS, check_memory, check_size, find_images, is_file, is_folder
from datamodules.image_reader import ImageReader, ValueRange
from datamodules.loader import Batch, BatchLoader, BatchTransform


class ReferenceImagesDataModule(ImageDataModule):
    """A few reference images for image optimization, your own or generated ones; a batch has all of them.

    A batch is (images, their numbers). The same images are used for training and for the test, and there is no
    validation. Several processes have an equal share of the images each. Generated images come in three sets:
    `textures` (bricks, pebbles, shingles), `scenes` (lake, portrait, houses) and `paintings` (strokes, glass).

    Args:
        images: An image file, a folder of image files, or the name of a set of generated images or of one of them
            (`./textures` for a folder of that name).
        size: Height and width in pixels, or one number for both. Images are resized and cropped at the centre.
        grayscale: Whether images have one channel instead of three.
        steps_per_epoch: Number of training batches in an epoch.
        on_device: Whether the images are kept on the training device. By default they are if they take less than half
            of its free memory.
        value_range: Values of black and white in images of more than 8 bits, such as `[0, 4095]` for 12 bits. By
            default the range of the file type: 0 to 65535 for 16 bits, 0 to 1 for floats.
        max_pixels: Largest number of pixels of an image file; larger ones are refused before they are decoded.

    Raises:
        ValueError: An option has a value that no images allow.
        DataError: From `prepare_data` and `setup`: images are missing, not readable or not divisible among the
            processes.

    Examples:
        >>> data = ReferenceImagesDataModule("textures", size=16)
        >>> images, numbers = data.examples("train", 3)
        >>> images.shape, data.names
        (torch.Size([3, 3, 16, 16]), ['bricks', 'pebbles', 'shingles'])
    """

    name = "reference_images"
    classes: ClassVar[tuple[str, ...]] = ("image",)
    label_columns: ClassVar[tuple[str, ...]] = ("number",)
    references: ClassVar[str] = "reference images"
    """Kind of the images in a batch; a model of image optimization names the kind that it needs."""
    used_after_reading = ImageDataModule.used_after_reading | {"steps_per_epoch"}

    def __init__(
        self,
        images: str = "textures",
        size: int | tuple[int, int] = 128,
        grayscale: bool = False,
        steps_per_epoch: int = 5,
        on_device: bool | None = None,
        value_range: ValueRange | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(val_size=0, on_device=on_device)
        if steps_per_epoch < 1:
            raise ValueError(f"data.steps_per_epoch is {steps_per_epoch}; it must be at least 1")
        self._reader = ImageReader(grayscale, value_range, max_pixels)
        self._size = check_size(size, max_pixels)
        self.images = images
        self.grayscale = grayscale
        self.steps_per_epoch = steps_per_epoch
        self.image_shape = (1 if grayscale else 3, *self._size)

    @property
    def num_images(self) -> int:
        """Number of images to optimize.

        Raises:
            DataError: The reference images are not found.
        """
        return len(self.names)

    @cached_property
    def names(self) -> list[str]:
        """Unique names of the images to optimize."""
        return _names(self._sources)

    def read(self) -> Arrays:
        check_memory(len(self.names), self.image_shape)
        return self._arrays(np.stack([self._read(source) for source in self._sources]))

    def example_positions(self, split: Split, n: int, seed: int = 0) -> Tensor:
        """Returns those of the first `n` images of a batch."""
        return torch.arange(self.number_of_images(split))[:n]

    def _arrays(self, images: np.ndarray) -> Arrays:
        """Returns the same images for training and test, labelled by their numbers."""
        arrays: Arrays = {}
        for split in ("train", "test"):
            arrays[f"x_{split}"], arrays[f"y_{split}"] = images, np.arange(len(images))
        return arrays

    def _read(self, source: Path | str) -> np.ndarray:
        """Reads or generates one image: uint8 H x W x C."""
        if isinstance(source, Path):
            return self._reader.read(source, self._size)
        image = procedural_images.generate(source, self._size)
        return np.rint(image @ (0.299, 0.587, 0.114)).astype(np.uint8)[:, :, None] if self.grayscale else image

    @cached_property
    def _sources(self) -> list[Path] | list[str]:
        return _find(self.images, "--data.images")

    def _loader(self, split: Split, shuffle: bool | None = None) -> BatchLoader:
        """Returns a loader whose every batch has this process's share of all images."""
        images, labels, index = self._split(split)
        trainer = self.trainer
        processes = trainer.world_size if trainer else 1
        share, rest = divmod(len(index), processes)
        if rest:
            raise DataError(
                f"the {self.references} ({len(index)}) cannot be divided evenly among {processes} processes;"
                " give another number of --trainer.devices or of images"
            )
        training = split == "train" if shuffle is None else shuffle
        return BatchLoader(
            images,
            labels,
            index.repeat(self.steps_per_epoch if training else 1),
            batch_size=share,
            rank=trainer.global_rank if trainer else 0,
            world_size=processes,
            device=trainer.strategy.root_device if trainer else None,
            batch_transform=self.batch_transform(split),
        )

    def source_files(self) -> list[Path]:
        return _files(self._sources)


class StyleTransferDataModule(ReferenceImagesDataModule):
    """A few content images and style images for neural style transfer; a batch has every combination of them.

    A batch is (content images, style images). Files and generated images are given as in ReferenceImagesDataModule.

    Args:
        content: Content images: an image file, a folder of image files, or the name of a set of generated images or of
            one of them (`./scenes` for a folder of that name).
        style: Style images, given in the same way.
        size: Height and width in pixels, or one number for both. Images are resized and cropped at the centre.
        grayscale: Whether images have one channel instead of three.
        steps_per_epoch: Number of training batches in an epoch.
        on_device: Whether the images are kept on the training device. By default they are if they take less than half
            of its free memory.
        value_range: Values of black and white in images of more than 8 bits, such as `[0, 4095]` for 12 bits. By
            default the range of the file type: 0 to 65535 for 16 bits, 0 to 1 for floats.
        max_pixels: Largest number of pixels of an image file; larger ones are refused before they are decoded.

    Examples:
        >>> data = StyleTransferDataModule("lake", "paintings", size=16)
        >>> content, style = data.examples("train", 2)
        >>> content.shape, data.names
        (torch.Size([2, 3, 16, 16]), ['lake_strokes', 'lake_glass'])
    """

    references: ClassVar[str] = "pairs of content and style images"

    def __init__(
        self,
        content: str = "scenes",
        style: str = "paintings",
        size: int | tuple[int, int] = 128,
        grayscale: bool = False,
        steps_per_epoch: int = 5,
        on_device: bool | None = None,
        value_range: ValueRange | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__(content, size, grayscale, steps_per_epoch, on_device, value_range, max_pixels)
        self.style = style

    @cached_property
    def names(self) -> list[str]:
        styles = _names(self._styles)
        return [f"{content}_{style}" for content in _names(self._sources) for style in styles]

    def read(self) -> Arrays:
        """Returns each content image with each style image, as one image with twice the channels."""
        check_memory(2 * len(self.names), self.image_shape)
        contents, styles = ([self._read(source) for source in sources] for sources in (self._sources, self._styles))
        pairs = [np.concatenate([content, style], axis=2) for content in contents for style in styles]
        return self._arrays(np.stack(pairs))

    def batch_transform(self, split: Split) -> BatchTransform:
        channels = self.image_shape[0]

        def content_and_style(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            return images[:, :channels], images[:, channels:]

        return content_and_style

    @cached_property
    def _sources(self) -> list[Path] | list[str]:
        return _find(self.images, "--data.content")

    @cached_property
    def _styles(self) -> list[Path] | list[str]:
        return _find(self.style, "--data.style")

    def source_files(self) -> list[Path]:
        return [*_files(self._sources), *_files(self._styles)]


def _find(which: str, option: str) -> list[Path] | list[str]:
    """Returns names of generated images, or image files.

    Raises:
        DataError: Nothing has that name, or the folder has no images.
    """
    generated, path = procedural_images.names(which), Path(which).expanduser()
    if generated:
        return generated
    if is_folder(path):
        return find_images(path)
    if is_file(path):
        return [path]
    known = ", ".join([*procedural_images.SETS, *procedural_images.IMAGES])
    raise DataError(f"{which} is no file, folder or generated image; give a path with {option}, or one of {known}")


def _names(sources: list[Path] | list[str]) -> list[str]:
    """Returns names of generated images, or stems of files, with the suffix if two files have one stem."""
    stems = Counter(Path(source).stem for source in sources)
    paths = [Path(source) for source in sources]
    return [path.stem if stems[path.stem] == 1 else path.name for path in paths]


def _files(sources: list[Path] | list[str]) -> list[Path]:
    """Returns the sources that are files, and not generated."""
    return [source for source in sources if isinstance(source, Path)]
