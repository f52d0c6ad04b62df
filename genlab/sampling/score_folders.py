"""Scores a folder of samples against a folder of real images: `sample.py score`."""

import argparse
import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor

from datamodules import DataError
from datamodules.array_file import ArrayFile
from datamodules.array_images import Fit, fitted
from genlab.evaluation.folder_scores import (
    BETTER,
    FolderScores,
    ScoreFeatures,
    classifier_features,
    inception_features,
)
from genlab.evaluation.inception import default_weights, has_inception
from genlab.media import Save
from genlab.runs.errors import UsageError
from genlab.sampling.device import chosen_device
from genlab.sampling.images import describe_shape
from genlab.sampling.own_images import ImageFiles, Reading, images_and_others, report_left_out
from genlab.sampling.progress import progress
from genlab.sampling.saving import save
from genlab.words import counted

ARRAYS = (".npz", ".npy")
BATCH_SIZE = 100
SUBSET_SIZE = 1000
"""Of the kernel distance, as published."""
DEVIATION = "_deviation"


class ImageSet(Protocol):
    """Images of one size that are read in batches."""

    left_out: list[Path]

    def __len__(self) -> int: ...

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, list[int]]]: ...


def score(options: argparse.Namespace) -> None:
    """Prints the scores of the images of one folder against those of another, and writes them if asked for.

    Raises:
        UsageError, DataError, CheckpointError: bad input, or the file cannot be written; nothing was written.
    """
    features = _features(options, chosen_device(options.device))
    shape = _image_shape(features, options)
    checkpoint = Path(options.features) if features.name == "classifier" else None
    reading = Reading.as_trained(options, checkpoint)
    scores = FolderScores(features, options.seed)
    if options.count is not None and options.count < scores.least:
        raise UsageError(
            f"--count {options.count}: the scores need at least {scores.least} images, and better thousands"
        )
    sets = {real: _image_set(path, shape, reading, options) for real, path in _sides(options)}
    for real, path in _sides(options):
        _check_count(len(sets[real]), scores, path)
    with progress() as bar:
        for real, path in _sides(options):
            task = bar.add_task(f"reading {path}", total=len(sets[real]))
            for images, _ in sets[real].batches(BATCH_SIZE):
                if len(images):
                    scores.add(images, real)
                bar.advance(task, len(images))
            report_left_out(sets[real].left_out, len(sets[real]), path)
            _check_count(scores.counts[real], scores, path)
        bar.add_task("comparing", total=None)
        found = scores.compute()
    _print(options, scores, shape, found)
    if options.output is not None:
        save({options.output: _writer(options, scores, found)})
        print(f"wrote {options.output}")


def _sides(options: argparse.Namespace) -> tuple[tuple[bool, Path], tuple[bool, Path]]:
    """Whether images are real, and where they are."""
    return (True, options.real), (False, options.samples)


def _features(options: argparse.Namespace, device: torch.device) -> ScoreFeatures:
    if options.features not in (None, "inception"):
        return classifier_features(Path(options.features).expanduser(), device)
    if options.features is None and options.inception_weights is None and not has_inception():
        file = default_weights()
        missing = "torch-fidelity is not installed" if file.is_file() else f"there is no {file}"
        raise UsageError(
            f"there are no weights of Inception ({missing}); give --features CKPT, the checkpoint of a Classifier"
            " of such images, or --features inception to download them"
        )
    return inception_features(device, options.inception_weights)


def _image_shape(features: ScoreFeatures, options: argparse.Namespace) -> tuple[int, int, int]:
    """The shape that all images get: that of the features, or --size, or that of the first sample."""
    if features.image_shape is not None:
        if options.size is not None:
            raise UsageError(f"--size: not with a classifier, which takes {features.image_shape[1:]}; leave it out")
        return features.image_shape
    if options.size is not None:
        return 3, options.size, options.size
    if options.samples.suffix in ARRAYS and options.samples.is_file():
        return 3, *_array_file(options.samples).image_shape[1:]
    first = images_and_others(options.samples)[0][0]
    try:
        return 3, *Reading.as_trained(options, None).reader(3).read(first).shape[:2]
    except DataError as error:
        raise DataError(f"{error}, or give --size") from error


def _image_set(path: Path, shape: tuple[int, int, int], reading: Reading, options: argparse.Namespace) -> ImageSet:
    """The images of a folder, or of an .npz or .npy file; --count of them at random."""
    if path.suffix in ARRAYS and path.is_file():
        return ArraySet(_array_file(path), shape, reading, options)
    paths = images_and_others(path)[0]
    chosen = [paths[position] for position in _positions(len(paths), options)]
    return ImageFiles(chosen, reading.reader(shape[0]), shape[1:], options.skip_broken)


class ArraySet:
    """The images of all parts of an .npz or .npy file."""

    def __init__(
        self, file: ArrayFile, shape: tuple[int, int, int], reading: Reading, options: argparse.Namespace
    ) -> None:
        self.left_out: list[Path] = []
        self.path = file.path
        self.shape = shape
        self.fit = Fit(shape[1:], shape[0] == 1, reading.resize, reading.background)
        with _own_advice():
            self.parts = [file.images(part, options.value_range) for part in file.parts]
        self.positions = _positions(sum(map(len, self.parts)), options)

    def __len__(self) -> int:
        return len(self.positions)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, list[int]]]:
        """Yields images, uint8 N x C x H x W, and their positions."""
        starts = np.cumsum([0, *map(len, self.parts)])
        for start in range(0, len(self.positions), batch_size):
            positions = self.positions[start : start + batch_size]
            places = [(int(np.searchsorted(starts, position, "right")) - 1, position) for position in positions]
            images = np.stack([self.parts[part][position - starts[part]] for part, position in places])
            pixels = fitted(images, self.shape, self.fit, self.path)
            yield torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), positions


def _array_file(path: Path) -> ArrayFile:
    file = ArrayFile(path)
    with _own_advice():
        _ = file.image_shape
    return file


@contextmanager
def _own_advice() -> Iterator[None]:
    """Replaces the options of training in an error about an array file."""
    try:
        yield
    except DataError as error:
        problem = str(error).partition(";")[0]
        raise DataError(f"{problem}; save the images as one uint8 array, N x H x W x C with C 1 or 3") from error


def _positions(count: int, options: argparse.Namespace) -> list[int]:
    """The positions of all images, or of --count of them, drawn at random."""
    if options.count is None or options.count >= count:
        return list(range(count))
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(options.seed))
    return drawn[: options.count].sort().values.tolist()


def _check_count(count: int, scores: FolderScores, path: Path) -> None:
    if count < scores.least:
        raise UsageError(
            f"{path} has {counted(count, 'image')}; the scores need at least {scores.least}, and better thousands"
        )


def _print(
    options: argparse.Namespace, scores: FolderScores, shape: tuple[int, int, int], found: Mapping[str, float]
) -> None:
    features, real, made = scores.features, scores.counts[True], scores.counts[False]
    source = "Inception" if features.name == "inception" else f"the classifier {options.features}"
    print(f"real images   {real:>9,}  {options.real}")
    print(f"samples       {made:>9,}  {options.samples}")
    print(f"features      {features.num_features:>9,}  of {source}, from images of {describe_shape(shape)}")
    table = Table("score", Column("value", justify="right"), "better")
    for key, value in found.items():
        if not key.endswith(DEVIATION):
            deviation = found.get(key + DEVIATION)
            text = f"{value:.4g}" if deviation is None else f"{value:.4g} ± {deviation:.2g}"
            table.add_row(key, text, BETTER[key.partition("_")[0]])
    Console().print(table)
    fewest = min(real, made)
    if fewest <= features.num_features:
        print(
            f"{fewest:,} images are too few for {features.num_features:,} features: the Frechet distance is too large,"
            " and compares only scores of equal numbers of images"
        )
    if scores.subset_size < SUBSET_SIZE:
        print(f"the kernel distance is that of subsets of {scores.subset_size} images, as there are few")


def _writer(options: argparse.Namespace, scores: FolderScores, found: Mapping[str, float]) -> Save:
    row: dict[str, Any] = {
        "real": str(options.real),
        "samples": str(options.samples),
        "real_images": scores.counts[True],
        "sample_images": scores.counts[False],
        "features": "inception" if scores.features.name == "inception" else str(options.features),
        **found,
    }
    if options.output.suffix == ".json":
        return lambda file: file.write((json.dumps(row, indent=2) + "\n").encode())
    text = io.StringIO()
    table = csv.DictWriter(text, row, lineterminator="\n")
    table.writeheader()
    table.writerow(row)
    return lambda file: file.write(text.getvalue().encode())
