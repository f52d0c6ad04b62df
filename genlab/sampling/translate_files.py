"""Translates or reconstructs image files with a trained model (`sample.py --input`)."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.image_files import MAX_PIXELS, find_images, is_file, is_folder
from datamodules.image_reader import ImageReader, ValueRange
from genlab.media import join_pictures
from genlab.runs.errors import UsageError
from genlab.sampling.images import to_uint8
from lit_models import GenerativeModule
from lit_models.common.capabilities import Reconstructs, Translates

Size = Literal["model", "own"]
MAX_BATCH_SIZE = 64
MAX_BATCH_PIXELS = 2**20
"""Largest number of pixels of a batch of more than one image."""


def images_and_others(path: Path) -> tuple[list[Path], list[Path]]:
    """Lists the images of a folder and its other files, without hidden files; a single file is always an image.

    Raises:
        UsageError: The path does not exist.
        DataError: The folder cannot be read, or has no images, or a link leads nowhere.
    """
    if is_file(path):
        return [path], []
    if not is_folder(path):
        raise UsageError(f"there is no folder or image {path}; give one with --input")
    images = find_images(path)
    hidden_or_image = {*images, *path.glob(".*")}
    return images, [file for file in path.iterdir() if file.is_file() and file not in hidden_or_image]


def destinations(originals: Sequence[Path], source: Path, folder: Path) -> dict[Path, Path]:
    """The path of each translation: a PNG with the stem of the original's name.

    Args:
        originals: The image files.
        source: Their folder, or the single file.
        folder: Folder of the translations.

    Raises:
        UsageError: A translation would overwrite an original or another translation, or `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder} is a file; name a folder for the translations")
    if source.is_dir() and folder.resolve() == source.resolve():
        raise UsageError(f"--output {folder} is the folder of the originals; name another one for the translations")
    paths = {original: folder / f"{original.stem}.png" for original in originals}
    sources: dict[Path, Path] = {}
    for original, path in paths.items():
        other = sources.setdefault(path, original)
        if other != original:
            raise UsageError(f"{other} and {original.name} would both become {path}; rename one of them")
        if path.exists() and path.samefile(original):
            raise UsageError(f"the translation would overwrite {original} itself; name another folder with --output")
    return paths


class FileTranslator:
    """Translates image files, or reconstructs them where the model reconstructs images instead.

    They are converted to the channels, and with size `model` to the size, of the model.

    Args:
        model: A trained model in evaluation mode.
        direction: ab (source to target) or ba (target to source).
        size: `model` resizes the shorter side to that of the training images and crops the centre; `own` keeps the size
            of the file. None for `own` if the model upscales images, else `model`.
        value_range: Values of black and white in images of more than 8 bits; None for the range of the file type.
        max_pixels: Largest number of pixels of a file.

    Raises:
        UsageError: The model neither translates nor reconstructs images, or not in this direction, or its images have
            neither 1 nor 3 channels.
    """

    def __init__(
        self,
        model: GenerativeModule,
        direction: str = "ab",
        size: Size | None = None,
        value_range: ValueRange | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        name = type(model).__name__
        if not isinstance(model, Translates | Reconstructs):
            raise UsageError(f"{name} neither translates nor reconstructs images; leave --input out")
        self.verb = "translate" if isinstance(model, Translates) else "reconstruct"
        directions = model.directions if isinstance(model, Translates) else ("ab",)
        if direction not in directions:
            possible = " and ".join(directions)
            raise UsageError(f"{name} cannot {self.verb} {direction}, only {possible}; use --direction {directions[0]}")
        target = tuple(model.hparams["image_shape"])
        source = tuple(model.hparams.get("source_shape") or target)
        if direction == "ba":
            source, target = target, source
        if not {source[0], target[0]} <= {1, 3}:
            raise UsageError(
                f"{name} {self.verb}s images of {source[0]} to {target[0]} channels; those of files have 1 or 3"
            )
        upscales = target[1] > source[1] or target[2] > source[2]
        self.model: Any = model
        self.direction = direction
        self.size: Size = size or ("own" if upscales else "model")
        self.shape = source
        self.reader = ImageReader(source[0] == 1, value_range, max_pixels, ("--value-range", "--max-pixels"))
        self.growth = max(1.0, target[1] * target[2] / (source[1] * source[2]))

    def read(self, path: Path) -> Tensor:
        """Reads an image and converts it for the model: uint8 C x H x W.

        Raises:
            DataError: The file cannot be read, or is too large.
        """
        _, height, width = self.shape
        pixels = self.reader.read(path, (height, width) if self.size == "model" else None)
        return torch.from_numpy(pixels.copy()).movedim(2, 0)

    def pictures(
        self, shapes: Mapping[Path, Sequence[int]], compare: bool = False
    ) -> Iterator[tuple[Path, Image.Image]]:
        """Yields each file and its translation, sorted by shape.

        Args:
            shapes: The shape of what `read` returns for each file.
            compare: Show the original, as the model was given it, to the left of the translation.

        Raises:
            UsageError: The model cannot translate images of a file's size.
            DataError: A file cannot be read.
            CheckpointError: A translation is not finite.
        """
        for batch in self._batches(shapes):
            originals = torch.stack([self.read(path) for path in batch])
            translations = self._translate(originals, batch[0])
            for path, original, translation in zip(batch, originals, translations, strict=True):
                picture = _picture(translation)
                yield path, _side_by_side(_picture(original), picture) if compare else picture

    def _batches(self, shapes: Mapping[Path, Sequence[int]]) -> Iterator[list[Path]]:
        for shape in sorted({tuple(shape) for shape in shapes.values()}):
            paths = [path for path in shapes if tuple(shapes[path]) == shape]
            pixels = shape[1] * shape[2] * self.growth
            size = max(1, min(MAX_BATCH_SIZE, int(MAX_BATCH_PIXELS / pixels)))
            yield from (paths[start : start + size] for start in range(0, len(paths), size))

    @torch.no_grad()
    def _translate(self, images: Tensor, path: Path) -> Tensor:
        """Translates images, uint8 N x C x H x W; `path` names the first one in errors."""
        try:
            translations = self._forward(images.to(self.model.device, self.model.dtype) / 255)
        except (RuntimeError, ValueError) as error:
            height, width = images.shape[2:]
            message = f"{type(self.model).__name__} cannot {self.verb} {path} at {width} x {height} pixels"
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UsageError(f"{message} ({reason}){'; use --size model' if self.size == 'own' else ''}") from error
        return to_uint8(translations)

    def _forward(self, images: Tensor) -> Tensor:
        if self.verb == "translate":
            return self.model.translate(images, self.direction)
        return self.model.reconstruct(images)


def _picture(image: Tensor) -> Image.Image:
    """uint8 C x H x W -> a picture."""
    return Image.fromarray(np.ascontiguousarray(image[0] if len(image) == 1 else image.movedim(0, 2)))


def _side_by_side(original: Image.Image, translation: Image.Image) -> Image.Image:
    """Joins an original and its translation; a smaller original is enlarged by nearest-neighbour interpolation."""
    if original.width < translation.width or original.height < translation.height:
        original = original.resize(translation.size, Image.Resampling.NEAREST)
    return join_pictures([original, translation])
