"""Encodes image files with a trained model: `sample.py encode`."""

import argparse
import csv
import io
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genlab.latents import batch_size_of
from genlab.media import Save
from genlab.random_state import isolated_rng
from genlab.runs.errors import UsageError
from genlab.sampling.device import chosen_device
from genlab.sampling.images import to_float
from genlab.sampling.own_images import ImageFiles, Reading, class_labels, images_and_others, report_left_out
from genlab.sampling.progress import progress
from genlab.sampling.saving import save
from genlab.words import counted
from lit_models import CheckpointError, GenerativeModule
from lit_models.common.capabilities import Encodes


class Codes(NamedTuple):
    """The codes of N image files."""

    files: list[str]
    """Paths relative to the folder, with forward slashes."""
    labels: list[int]
    """Numbers of the classes; -1 for an image in no sub-folder."""
    class_names: list[str]
    codes: np.ndarray
    """float32, N x d."""


def encode(options: argparse.Namespace) -> None:
    """Encodes the images of a folder, and writes their codes with their names and labels.

    Raises:
        UsageError, DataError, CheckpointError: bad input, or the file cannot be written; nothing was written.
    """
    model = GenerativeModule.load(options.checkpoint).to(chosen_device(options.device))
    reader = Reading.as_trained(options, options.checkpoint).reader(encoded_channels(model))
    paths = images_and_others(options.input)[0][: options.count]
    files = ImageFiles(paths, reader, tuple(model.hparams["image_shape"][1:]), options.skip_broken)
    codes, kept = [], []
    with isolated_rng(), progress() as bar:
        task = bar.add_task("encoding", total=len(files))
        for images, positions in files.batches(batch_size_of(model)):
            if positions:
                codes.append(encode_images(model, images))
                kept += [paths[position] for position in positions]
            bar.advance(task, len(images))
    report_left_out(files.left_out, len(paths), options.input)
    labels, names = class_labels(kept, options.input)
    root = options.input if options.input.is_dir() else options.input.parent
    made = Codes([path.relative_to(root).as_posix() for path in kept], labels, names, torch.cat(codes).numpy())
    save({options.output: as_npz(made) if options.output.suffix == ".npz" else as_csv(made)})
    classes = f" of {counted(len(names), 'class', 'classes')}" if names else ""
    count, numbers = counted(len(kept), "image"), counted(made.codes.shape[1], "number")
    print(f"wrote {options.output}: codes of {count}{classes}, {numbers} each")


def encoded_channels(model: GenerativeModule) -> int:
    """The channels of the images that a model encodes.

    Raises:
        UsageError: It encodes no images, or none that files hold.
    """
    name = type(model).__name__
    if not isinstance(model, Encodes):
        raise UsageError(f"{name} does not encode images; give the checkpoint of an autoencoder, a VAE, Glow or GLO")
    channels = int(model.hparams["image_shape"][0])
    if channels not in (1, 3):
        raise UsageError(f"{name} encodes images of {channels} channels; those of files have 1 or 3")
    return channels


@torch.no_grad()
def encode_images(model: GenerativeModule, images: Tensor) -> Tensor:
    """The codes, float32 N x d on the CPU, of images, uint8 N x C x H x W.

    Raises:
        CheckpointError: A code is not finite.
    """
    assert isinstance(model, Encodes)
    codes = model.encode(to_float(images.to(model.device)).to(model.dtype)).float().cpu()
    if not codes.isfinite().all():
        raise CheckpointError("the model's codes are not finite; train it again")
    return codes


def as_npz(made: Codes) -> Save:
    """Arrays `files`, `labels`, `class_names` and `codes`; nothing in it is pickled."""
    arrays = {
        "files": np.array(made.files),
        "labels": np.array(made.labels, np.int64),
        "class_names": np.array(made.class_names, str),
        "codes": made.codes,
    }
    return lambda file: np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def as_csv(made: Codes) -> Save:
    """Columns `file`, `label` (the name of the class) and `code_0`, `code_1`, ..."""

    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["file", "label", *(f"code_{column}" for column in range(made.codes.shape[1]))])
    for name, label, code in zip(made.files, made.labels, made.codes, strict=True):
        rows.writerow([name, made.class_names[label] if label >= 0 else "", *map(str, code)])
    return lambda file: file.write(text.getvalue().encode())
