"""The two commands of sample.py: sampling from a checkpoint, and translating or reconstructing images with one."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from genlab.runs.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from genlab.media import Save
    from genlab.sampling.labels import PredictedLabels
    from genlab.sampling.sampler import CheckpointSampler

WAYPOINTS = 4
"""Codes that a closed interpolation goes through."""
FRAME_SECONDS = 0.08


def sample(options: argparse.Namespace) -> None:
    """Samples images from a checkpoint, and writes them.

    Raises:
        UsageError, DataError, CheckpointError: bad input, or a file cannot be written; nothing was written.
        OSError: a file cannot be read.
    """
    from genlab.evaluation.classifier import check_same_data
    from genlab.random_state import isolated_rng
    from genlab.sampling.labels import label_images
    from genlab.sampling.overrides import override_sampling
    from genlab.sampling.run_data import class_names, training_data
    from genlab.sampling.sampler import CheckpointSampler
    from lit_models import GenerativeModule, Probe
    from lit_models.common.capabilities import HasLatentBlocks, Samples, Translates

    interpolates = options.interpolate or options.output.suffix == ".gif"
    if interpolates and (options.classifier or options.output.suffix == ".npz" or len(options.classes) > 1):
        raise UsageError(
            "interpolations have no labels; leave --classifier out, and give one --class and a .png or .gif"
        )
    if options.sort and not options.classifier:
        raise UsageError("--sort needs labels: give --classifier CKPT")
    if options.output.suffix == ".npz" and options.count == 1:
        raise UsageError("an .npz data set has at least 2 images, one of them for the test; give a larger --count")
    device = _device(options.device)
    model = GenerativeModule.load(options.checkpoint).to(device)
    override_sampling(model, options.sampler, options.sampler_steps, options.guidance_scale, options.temperature)
    if isinstance(model, Translates) and not isinstance(model, Samples | HasLatentBlocks):
        raise UsageError(f"{type(model).__name__} translates images; give them with --input FOLDER")
    classifier = GenerativeModule.load(options.classifier).to(device) if options.classifier else None
    if classifier is not None:
        check_same_data(classifier, model.data_fingerprint, options.classifier, f"those of {options.checkpoint}")
    sampler = CheckpointSampler(
        model,
        options.sample_from,
        lambda: training_data(options.checkpoint, options.data, options.data_root),
        options.components,
        options.seed,
    )
    classes = _class_numbers(sampler, options)
    with isolated_rng(options.seed):
        if interpolates:
            _interpolate(sampler, options, classes[0] if classes else None)
            return
        images, codes, asked = _draw(sampler, options, classes)
    if classifier is None:
        _write(options, images, None, asked, [])
        return
    labels = label_images(classifier, model, images, codes)
    number = classifier.hparams["num_classes"]
    names = class_names(options.classifier, number) or class_names(options.checkpoint, number)
    names = names or [str(label) for label in range(number)]
    _write(options, images, labels, asked, names)
    _print_counts(labels, names, asked, isinstance(classifier, Probe))


def translate(options: argparse.Namespace) -> None:
    """Translates or reconstructs the images of a folder, each into a file, once all of them have been read.

    Raises:
        UsageError, DataError, CheckpointError: bad input, or a file cannot be written; what was written is whole.
        OSError: a folder cannot be read.
    """
    from rich.console import Console
    from rich.progress import Progress

    from datamodules.image_files import MAX_PIXELS
    from genlab.random_state import isolated_rng
    from genlab.sampling.run_data import training_option
    from genlab.sampling.translate_files import FileTranslator, destinations, images_and_others
    from lit_models import GenerativeModule

    originals, others = images_and_others(options.input)
    model = GenerativeModule.load(options.checkpoint).to(_device(options.device))
    value_range = options.value_range or training_option(options.checkpoint, "value_range")
    max_pixels = options.max_pixels or MAX_PIXELS
    translator = FileTranslator(model, options.direction, options.size, value_range, max_pixels)
    folder = options.output or Path("translated" if translator.verb == "translate" else "reconstructed")
    places = destinations(originals[: options.count], options.input, folder)
    unseen = not sys.stderr.isatty()
    with isolated_rng(options.seed), Progress(console=Console(stderr=True), transient=True, disable=unseen) as bar:
        shapes = {path: translator.read(path).shape for path in bar.track(places, description="reading")}
        made = translator.pictures(shapes, options.compare)
        for path, picture in bar.track(made, len(places), description="writing"):
            _save({places[path]: partial(picture.save, format="PNG")})
    kinds = ", ".join(sorted({file.suffix or "no suffix" for file in others}))
    note = f"; other files in {options.input} left out: {len(others)} ({kinds})" if others else ""
    print(f"wrote {folder}: {len(places)} images{note}")


def _class_numbers(sampler: "CheckpointSampler", options: argparse.Namespace) -> list[int]:
    """The classes of --class, by the names in the data that the model was trained on, or by number."""
    from genlab.sampling.classes import class_numbers
    from genlab.sampling.run_data import class_names

    if not options.classes:
        return []
    number = sampler.check_conditional()
    return class_numbers(options.classes, class_names(options.checkpoint, number, options.data, options.data_root))


def _draw(
    sampler: "CheckpointSampler", options: argparse.Namespace, classes: list[int]
) -> "tuple[Tensor, Tensor | None, Tensor | None]":
    """Images, their codes if they have any, and the classes asked for if any, in that order."""
    import torch

    count = options.count or int(min(64, sampler.max_images))
    if not classes:
        return *sampler.sample(count), None
    shares = [count // len(classes) + (place < count % len(classes)) for place in range(len(classes))]
    drawn = [(label, *sampler.sample(share, label)) for label, share in zip(classes, shares, strict=True) if share]
    codes = [made for _, _, made in drawn if made is not None]
    asked = torch.cat([torch.full((len(images),), label) for label, images, _ in drawn])
    return torch.cat([images for _, images, _ in drawn]), torch.cat(codes) if codes else None, asked


def _interpolate(sampler: "CheckpointSampler", options: argparse.Namespace, label: int | None) -> None:
    from genlab.latent_paths import closed_paths, interpolate_codes
    from genlab.media import gif
    from genlab.sampling.output import grid

    if not sampler.has_codes():
        raise UsageError(f"{type(sampler.model).__name__} has no codes to interpolate; leave --interpolate out")
    animated = options.output.suffix == ".gif"
    count = options.count or (16 if animated else 8)
    waypoints, path = sampler.waypoints(count, WAYPOINTS if animated else 2, label), sampler.path()
    if animated:
        every = [sampler.decode(codes) for codes in closed_paths(waypoints, options.steps, path)]
        mode = "L" if every[0].shape[1] == 1 else "RGB"
        frames = [grid(images, _columns(options, count)).convert(mode) for images in every]
        _save({options.output: gif(frames, FRAME_SECONDS, FRAME_SECONDS)})
    else:
        codes = interpolate_codes(waypoints[0], waypoints[1], options.steps, path).flatten(0, 1)
        picture = grid(sampler.decode(codes), options.steps)
        _save({options.output: lambda file: picture.save(file, format="PNG")})
    print(f"wrote {options.output}: {count} interpolations")


def _write(
    options: argparse.Namespace,
    images: "Tensor",
    labels: "PredictedLabels | None",
    asked: "Tensor | None",
    names: list[str],
) -> None:
    import numpy as np

    from genlab.sampling.output import captioned_grid, data_arrays, grid, grid_by_class

    if options.output.suffix == ".npz":
        known = labels.classes if labels is not None else asked
        arrays = data_arrays(images, known)
        _save({options.output: lambda file: np.savez_compressed(file, **arrays)})  # type: ignore[arg-type]
        note = "" if known is not None else "; no --classifier, so all labels are 0"
        print(f"wrote {options.output}: {len(images)} images, {len(arrays['x_test'])} of them as x_test{note}")
        return
    columns = _columns(options, len(images))
    if labels is None:
        picture = grid(images, columns)
    elif options.sort:
        picture = grid_by_class(images, labels, names, columns)
    else:
        picture = captioned_grid(images, [f"{names[label]} {share:.0%}" for label, share in _pairs(labels)], columns)
    files: dict[Path, Save] = {options.output: lambda file: picture.save(file, format="PNG")}
    table = options.output.with_suffix(".csv")
    if labels is not None:
        rows = [f"{index},{label},{share:.6f}\n" for index, (label, share) in enumerate(_pairs(labels))]
        files[table] = lambda file: file.write("".join(["index,label,probability\n", *rows]).encode())
    _save(files)
    print(f"wrote {options.output}: {len(images)} images")
    if labels is not None:
        print(f"wrote {table}")


def _save(files: "dict[Path, Save]") -> None:
    """Writes all of these files, or none.

    Raises:
        UsageError: one of them cannot be written.
    """
    from genlab.media import write_files

    try:
        write_files(files)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename} ({error.strerror or error})") from error


def _print_counts(labels: "PredictedLabels", names: list[str], asked: "Tensor | None", probe: bool) -> None:
    """How many images there are of each class."""
    from rich.console import Console
    from rich.table import Table

    why = ", as the probe's encoder is not the model's or there are no codes" if probe else ""
    print("labels were read from the codes" if labels.read_from == "code" else f"labels were read from the images{why}")
    table = Table("class", "images", "mean probability")
    for label, name in enumerate(names):
        of_class = labels.probabilities[labels.classes == label]
        table.add_row(name, str(len(of_class)), f"{of_class.mean():.3f}" if len(of_class) else "")
    Console().print(table)
    if asked is not None:
        print(f"class agreement {(labels.classes == asked).float().mean():.4f}")


def _pairs(labels: "PredictedLabels") -> list[tuple[int, float]]:
    return list(zip(labels.classes.tolist(), labels.probabilities.tolist(), strict=True))


def _columns(options: argparse.Namespace, count: int) -> int:
    """As asked for; else a class a row where several were asked for; else about square."""
    classes = len(options.classes)
    by_class = count // classes if classes > 1 and count % classes == 0 else 0
    return options.columns or by_class or min(max(1, round(count**0.5)), 40)


def _device(name: str) -> "torch.device":
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name} cannot be used ({reason}); this machine has cpu at least") from None
