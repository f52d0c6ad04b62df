import hashlib
import os
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from datamodules import drawn_pictures
from datamodules.base import ImageDataModule, Split
from datamodules.files import Arrays, DataError
from datamodules.image_files import Size, find_images, read_image
from datamodules.loader import Batch, BatchLoader, Render


class PicturesDataModule(ImageDataModule):
    """A few pictures, of each of which an image is to be made. A batch is (pictures, numbers): all of them, every time.

    They are a user's own or drawn by the project: the sets `textures` (bricks, pebbles, shingles), `scenes` (lake,
    portrait, houses) and `paintings` (strokes, glass), or one of these by its own name. The same pictures are trained
    on and tested with, and none are set aside for validation. Several processes have an equal share of them each.

    Args:
        pictures: what is drawn, or an image file, or a folder of them (./textures for one of that name).
        size: height and width in pixels, or one number for both; images are resized and cut in the middle to fit.
        grey: one channel in place of three.
        steps_per_epoch: batches in an epoch.
        on_device: keep the pictures on the training device; by default when they take less than half its free memory.

    Raises:
        ValueError: an option that no pictures could meet.
        DataError: from `prepare_data` and `setup`: there are no such pictures, or they cannot be read or shared out.
    """

    name = "pictures"
    classes: ClassVar[tuple[str, ...]] = ("picture",)
    label_columns: ClassVar[tuple[str, ...]] = ("number",)
    given: ClassVar[str] = "pictures"
    """What a batch is of, as models that optimizer_step on the image ask for it."""

    def __init__(
        self,
        pictures: str = "textures",
        size: int | tuple[int, int] = 128,
        grey: bool = False,
        steps_per_epoch: int = 5,
        on_device: bool | None = None,
    ) -> None:
        super().__init__(val_size=0, on_device=on_device)
        self._size: Size = (size, size) if isinstance(size, int) else (size[0], size[1])
        if min(self._size) < 1 or steps_per_epoch < 1:
            raise ValueError(f"data.size is {size}, data.steps_per_epoch {steps_per_epoch}; they must be at least 1")
        self.pictures = pictures
        self.grey = grey
        self.steps_per_epoch = steps_per_epoch
        self.image_shape = (1 if grey else 3, *self._size)

    @property
    def num_images(self) -> int:
        """That are to be made.

        Raises:
            DataError: the pictures cannot be found.
        """
        return len(self.names)

    @cached_property
    def names(self) -> list[str]:
        """Of the images that are to be made, each another one."""
        return _names(self._sources)

    def read(self) -> Arrays:
        return self._arrays(np.stack([self._read(source) for source in self._sources]))

    def examples(self, split: Split, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """The first `n` pictures in their order, or all when there are fewer, with what a batch has beside them."""
        self.setup()
        images, labels, index = self._split(split)
        picked = index[:n]
        chosen, render = images[picked].float().div_(255), self.render(split)
        return (chosen, labels[picked]) if render is None else render(chosen, labels[picked], picked, 0)

    def _arrays(self, images: np.ndarray) -> Arrays:
        """The same to train on and to test with."""
        arrays: Arrays = {}
        for part in ("train", "test"):
            arrays[f"x_{part}"], arrays[f"y_{part}"] = images, np.arange(len(images))
        return arrays

    def _read(self, source: Path | str) -> np.ndarray:
        """One picture, uint8 H x W x C."""
        if isinstance(source, Path):
            return read_image(source, self._size, self.grey)
        coloured = drawn_pictures.drawn(source, self._size)
        return np.rint(coloured @ (0.299, 0.587, 0.114)).astype(np.uint8)[:, :, None] if self.grey else coloured

    @cached_property
    def _sources(self) -> list[Path] | list[str]:
        return _found(self.pictures, "--data.pictures")

    def _loader(self, split: Split, shuffle: bool | None = None) -> BatchLoader:
        """As many batches as an epoch of training has, or one; this process' share of all pictures in each."""
        images, labels, index = self._split(split)
        trainer = self.trainer
        processes = trainer.world_size if trainer else 1
        share, rest = divmod(len(index), processes)
        if rest:
            raise DataError(
                f"{len(index)} {self.given} cannot be shared out evenly over {processes} processes;"
                " give another number of --trainer.devices or of pictures"
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
            render=self.render(split),
        )

    def _identity(self) -> tuple[object, ...]:
        return (type(self), self.image_shape, self._stamp)

    @cached_property
    def _stamp(self) -> str:
        """A digest of what is read: of every file its path, size and time of change."""
        return _digest(self._sources)


class StylesDataModule(PicturesDataModule):
    """Pictures and styles, of which an image of each picture in each style is to be made. A batch is (content, style).

    Options as in PicturesDataModule.

    Args:
        styles: pictures whose style is taken, as `pictures` names those whose content is.
    """

    given: ClassVar[str] = "pictures and styles"

    def __init__(
        self,
        pictures: str = "scenes",
        styles: str = "paintings",
        size: int | tuple[int, int] = 128,
        grey: bool = False,
        steps_per_epoch: int = 5,
        on_device: bool | None = None,
    ) -> None:
        super().__init__(pictures, size, grey, steps_per_epoch, on_device)
        self.styles = styles

    @cached_property
    def names(self) -> list[str]:
        styles = _names(self._styles)
        return [f"{picture}_{style}" for picture in _names(self._sources) for style in styles]

    def read(self) -> Arrays:
        """Each picture with each style, as one image of twice the channels."""
        pictures, styles = ([self._read(source) for source in sources] for sources in (self._sources, self._styles))
        pairs = [np.concatenate([picture, style], axis=2) for picture in pictures for style in styles]
        return self._arrays(np.stack(pairs))

    def render(self, split: Split) -> Render:
        channels = self.image_shape[0]

        def both(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            return images[:, :channels], images[:, channels:]

        return both

    @cached_property
    def _styles(self) -> list[Path] | list[str]:
        return _found(self.styles, "--data.styles")

    @cached_property
    def _stamp(self) -> str:
        return _digest(self._sources) + _digest(self._styles)


def _found(which: str, option: str) -> list[Path] | list[str]:
    """Names of drawn pictures, or image files.

    Raises:
        DataError: there is nothing of that name, or no image in the folder.
    """
    drawn, path = drawn_pictures.names(which), Path(which).expanduser()
    if drawn:
        return drawn
    if path.is_dir():
        return find_images(path)
    if path.is_file():
        return [path]
    known = ", ".join([*drawn_pictures.SETS, *drawn_pictures.PICTURES])
    raise DataError(f"there are no pictures {which}; give a file or a folder with {option}, or one of {known}")


def _names(sources: list[Path] | list[str]) -> list[str]:
    """Names of drawn pictures, or stems of files, with the suffix where it alone tells two files apart."""
    stems = Counter(Path(source).stem for source in sources)
    paths = [Path(source) for source in sources]
    return [path.stem if stems[path.stem] == 1 else path.name for path in paths]


def _digest(sources: list[Path] | list[str]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        stamp = (source.stat().st_mtime_ns, source.stat().st_size) if isinstance(source, Path) else ()
        digest.update(os.fsencode(os.path.abspath(source) if stamp else source) + repr(stamp).encode())
    return digest.hexdigest()
