"""Translates or reconstructs image files with a trained model (`sample.py --input`)."""

import argparse
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from datamodules import DataError
from datamodules.class_folders import images_below
from genlab.media import join_pictures
from genlab.random_state import isolated_rng
from genlab.runs.errors import UsageError
from genlab.sampling.device import chosen_device
from genlab.sampling.images import to_picture, to_uint8
from genlab.sampling.own_images import Reading, images_and_others, or_skip, report_left_out
from genlab.sampling.progress import progress
from genlab.sampling.saving import save
from genlab.words import counted
from lit_models import GenerativeModule
from lit_models.common.capabilities import Reconstructs, Translates

Size = Literal["model", "own"]
FOLDERS = {"translate": "translated", "reconstruct": "reconstructed"}
"""Folders of the results where none is named."""
MAX_BATCH_SIZE = 64
MAX_BATCH_PIXELS = 2**20
"""Largest number of pixels of a batch of more than one image."""


def translate(options: argparse.Namespace) -> None:
    """Translates or reconstructs the images of a folder, each into a file, once all of them have been read.

    Raises:
        UsageError, DataError, CheckpointError: bad input, or a file cannot be written; what was written is whole.
        OSError: a folder cannot be read.
    """
    model = GenerativeModule.load(options.checkpoint).to(chosen_device(options.device))
    reading = Reading.as_trained(options, options.checkpoint)
    translator = FileTranslator(model, options.direction, options.size, reading)
    if options.verb not in (None, translator.verb):
        raise UsageError(f"{type(model).__name__} does not {options.verb} images; use `{translator.verb}`")
    folder = options.output or Path(FOLDERS[translator.verb])
    originals, others = images_and_others(options.input, folder)
    places = destinations(originals[: options.count], options.input, folder)
    with isolated_rng(options.seed), progress() as bar:
        read = translator.shapes(list(places), options.skip_broken)
        found = dict(bar.track(read, len(places), description="reading"))
        shapes = {path: shape for path, shape in found.items() if shape is not None}
        report_left_out([path for path in found if path not in shapes], len(found), options.input)
        made = translator.pictures(shapes, options.compare)
        for path, picture in bar.track(made, len(shapes), description="writing"):
            save({places[path]: partial(picture.save, format="PNG")})
    kinds = ", ".join(sorted({file.suffix or "no suffix" for file in others}))
    note = f"; other files in {options.input} left out: {len(others)} ({kinds})" if others else ""
    print(f"wrote {folder}: {counted(len(shapes), 'image')}{note}")


def destinations(originals: Sequence[Path], source: Path, folder: Path) -> dict[Path, Path]:
    """The path of each result: a PNG with the stem of the original's name, in the same sub-folder.

    Where two would get the same path, the suffix of the original is kept: `a.jpg.png` and `a.png.png`.

    Args:
        originals: The image files.
        source: Their folder, or the single file.
        folder: Folder of the results.

    Raises:
        UsageError: A result would overwrite an original, or `folder` is a file, or has other images and is inside of
            `source`, as these may be originals.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder} is a file; name a folder for the results")
    if source.is_dir() and folder.resolve() == source.resolve():
        raise UsageError(f"--output {folder} is the folder of the originals; name another one for the results")
    root = source if source.is_dir() else source.parent
    whole: set[Path] = set()
    while True:
        paths = {
            original: folder
            / original.relative_to(root).with_name((original.name if original in whole else original.stem) + ".png")
            for original in originals
        }
        counts = Counter(str(path).casefold() for path in paths.values())
        shared = {original for original, path in paths.items() if counts[str(path).casefold()] > 1} - whole
        if not shared:
            break
        whole |= shared
    for original, path in paths.items():
        if path.exists() and path.samefile(original):
            raise UsageError(f"the result would overwrite {original} itself; name another folder with --output")
    if source.is_dir() and folder.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        made = set(paths.values())
        other = next((path for path in images_below(folder) if path not in made), None)
        if other is not None:
            raise UsageError(f"--output {folder} is inside of --input and has other images ({other}); name another one")
    return paths


class FileTranslator:
    """Translates image files, or reconstructs them where the model reconstructs images instead.

    They are converted to the channels, and with size `model` to the size, of the model.

    Args:
        model: A trained model in evaluation mode.
        direction: ab (source to target) or ba (target to source).
        size: `model` resizes the shorter side to that of the training images and crops the centre; `own` keeps the size
            of the file. None for `own` if the model upscales images, else `model`.
        reading: How the files are read.

    Raises:
        UsageError: The model neither translates nor reconstructs images, or not in this direction, or its images have
            neither 1 nor 3 channels.
    """

    def __init__(
        self,
        model: GenerativeModule,
        direction: str = "ab",
        size: Size | None = None,
        reading: Reading | None = None,
    ) -> None:
        name = type(model).__name__
        if not isinstance(model, Translates | Reconstructs):
            raise UsageError(
                f"{name} neither translates nor reconstructs images; give the checkpoint of a model that does"
            )
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
        self.reader = (reading or Reading()).reader(source[0])
        self.growth = max(1.0, target[1] * target[2] / (source[1] * source[2]))

    def read(self, path: Path) -> Tensor:
        """Reads an image and converts it for the model: uint8 C x H x W.

        Raises:
            DataError: The file cannot be read, or is too large.
        """
        _, height, width = self.shape
        pixels = self.reader.read(path, (height, width) if self.size == "model" else None)
        return torch.from_numpy(pixels.copy()).movedim(2, 0)

    def shapes(self, paths: Sequence[Path], skip_broken: bool = False) -> Iterator[tuple[Path, torch.Size | None]]:
        """Yields each file and the shape of what `read` returns for it, in order; files are read in threads.

        With `skip_broken`, the shape of a file that cannot be read is None.

        Raises:
            DataError: A file cannot be read.
        """

        def shape(path: Path) -> torch.Size | None:
            try:
                return self.read(path).shape
            except DataError as error:
                if skip_broken:
                    return None
                raise or_skip(error, paths) from error

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            try:
                yield from zip(paths, pool.map(shape, paths), strict=True)
            finally:
                pool.shutdown(cancel_futures=True)

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
                picture = to_picture(translation)
                yield path, _side_by_side(to_picture(original), picture) if compare else picture

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


def _side_by_side(original: Image.Image, translation: Image.Image) -> Image.Image:
    """Joins an original and its translation; a smaller original is enlarged by nearest-neighbour interpolation."""
    if original.width < translation.width or original.height < translation.height:
        original = original.resize(translation.size, Image.Resampling.NEAREST)
    return join_pictures([original, translation])
