"""A user's own images through a model of images to images: found, read, translated. The work of sample.py --input."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from datamodules import DataError
from datamodules.image_files import find_images, read_image
from genlab.media import join_pictures
from genlab.runs.errors import UsageError, describe_error
from genlab.sampling.images import to_uint8
from lit_models import GenerativeModule
from lit_models.common.capabilities import Decodes, HasLatentBlocks, Samples, Translates

Size = Literal["model", "own"]
MOST_TOGETHER = 64
MOST_PIXELS = 2**20
"""Of all images that are translated together, unless it is one alone."""


def images_and_others(path: Path) -> tuple[list[Path], list[Path]]:
    """The images of a folder, and its other files; hidden ones are neither. Or a file alone, whatever its name.

    Raises:
        UsageError: there is no such place.
        DataError: the folder cannot be read, or has no images.
    """
    if path.is_file():
        return [path], []
    if not path.is_dir():
        raise UsageError(f"there is no folder or image {path}")
    images = find_images(path)
    hidden_or_image = {*images, *path.glob(".*")}
    return images, [file for file in path.iterdir() if file.is_file() and file not in hidden_or_image]


def destinations(originals: Sequence[Path], source: Path, folder: Path) -> dict[Path, Path]:
    """Where the translation of each file goes: under its stem, as PNG.

    Args:
        source: the folder that they are from, or the one file.

    Raises:
        UsageError: there would be no place for one, or only that of an original or of another translation.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder} is a file; name a folder for the translations")
    if source.is_dir() and folder.resolve() == source.resolve():
        raise UsageError(f"--output {folder} is the folder of the originals; name another one for the translations")
    places = {original: folder / f"{original.stem}.png" for original in originals}
    taken: dict[Path, Path] = {}
    for original, place in places.items():
        other = taken.setdefault(place, original)
        if other != original:
            raise UsageError(f"{other} and {original.name} would both become {place}; rename one of them")
        if place.exists() and place.samefile(original):
            raise UsageError(f"the translation would overwrite {original} itself; name another folder with --output")
    return places


class FileTranslator:
    """Translates image files, each as the model takes them: its channels, and its size unless `size` is own.

    Args:
        model: in evaluation mode.
        direction: ab or ba.
        size: `model`: the shorter side is brought to the size of the images that the model was trained on, and the
            middle is cut out; `own`: as the image is; None: `own` where the model enlarges images, else `model`.

    Raises:
        UsageError: the model does not translate, or not this way, or not images that files hold.
    """

    def __init__(self, model: GenerativeModule, direction: str = "ab", size: Size | None = None) -> None:
        kind = type(model).__name__
        if not isinstance(model, Translates):
            makes = "images of noise, not" if isinstance(model, Samples | HasLatentBlocks | Decodes) else "no images"
            raise UsageError(f"{kind} makes {makes} of images; leave --input out")
        if direction not in model.directions:
            able = " and ".join(model.directions)
            raise UsageError(f"{kind} cannot translate {direction}, only {able}; use --direction {model.directions[0]}")
        target = tuple(model.hparams["image_shape"])
        source = tuple(model.hparams.get("source_shape") or target)
        if direction == "ba":
            source, target = target, source
        if not {source[0], target[0]} <= {1, 3}:
            raise UsageError(f"{kind}'s images have {source[0]} and {target[0]} channels, those of files 1 or 3")
        enlarges = target[1] > source[1] or target[2] > source[2]
        self.model: Any = model
        self.direction = direction
        self.size: Size = size or ("own" if enlarges else "model")
        self.shape = source
        self.growth = max(1.0, target[1] * target[2] / (source[1] * source[2]))

    def read(self, path: Path) -> Tensor:
        """An image as the model is to see it, uint8 C x H x W.

        Raises:
            DataError: it cannot be read.
        """
        channels, *trained_on = self.shape
        height, width = trained_on if self.size == "model" else oriented_size(path)
        return torch.from_numpy(read_image(path, (height, width), grayscale=channels == 1).copy()).movedim(2, 0)

    def pictures(
        self, shapes: Mapping[Path, Sequence[int]], compare: bool = False
    ) -> Iterator[tuple[Path, Image.Image]]:
        """Each file and its translation, those of one shape after each other.

        Args:
            shapes: of what `read` makes of each file.
            compare: show the original, as the model saw it, to the left.

        Raises:
            UsageError: an image is of a size that the model cannot take.
            DataError: one cannot be read.
            CheckpointError: what the model makes is not finite.
        """
        for batch in self._batches(shapes):
            originals = torch.stack([self.read(path) for path in batch])
            translations = self._translate(originals, batch[0])
            for path, original, translation in zip(batch, originals, translations, strict=True):
                made = _picture(translation)
                yield path, _side_by_side(_picture(original), made) if compare else made

    def _batches(self, shapes: Mapping[Path, Sequence[int]]) -> Iterator[list[Path]]:
        for shape in sorted({tuple(shape) for shape in shapes.values()}):
            alike = [path for path in shapes if tuple(shapes[path]) == shape]
            pixels = shape[1] * shape[2] * self.growth
            together = max(1, min(MOST_TOGETHER, int(MOST_PIXELS / pixels)))
            yield from (alike[start : start + together] for start in range(0, len(alike), together))

    @torch.no_grad()
    def _translate(self, images: Tensor, path: Path) -> Tensor:
        """uint8 N x C x H x W of such images, of which the first is the file's."""
        try:
            made = self.model.translate(images.to(self.model.device, self.model.dtype) / 255, self.direction)
        except (RuntimeError, ValueError) as error:
            height, width = images.shape[2:]
            what = f"{type(self.model).__name__} cannot translate {path} at {width} x {height} pixels"
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UsageError(f"{what} ({reason}){'; use --size model' if self.size == 'own' else ''}") from error
        return to_uint8(made)


def oriented_size(path: Path) -> tuple[int, int]:
    """Height and width of an image when it is turned as its EXIF orientation says.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Image.open(path) as file:
            width, height = ImageOps.exif_transpose(file).size
    except Exception as error:  # Pillow's readers raise almost anything on a damaged file
        raise DataError(
            f"{path} cannot be read as an image ({describe_error(error)}); mend it or take it away"
        ) from error
    return height, width


def _picture(image: Tensor) -> Image.Image:
    """uint8, C x H x W."""
    return Image.fromarray(np.ascontiguousarray(image[0] if len(image) == 1 else image.movedim(0, 2)))


def _side_by_side(original: Image.Image, translation: Image.Image) -> Image.Image:
    """An original that is smaller is enlarged, pixel by pixel."""
    if original.width < translation.width or original.height < translation.height:
        original = original.resize(translation.size, Image.Resampling.NEAREST)
    return join_pictures([original, translation])
