"""The command without a name, `sample.py CKPT`: samples and interpolations from a checkpoint."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from genlab.evaluation.classifier import check_same_data
from genlab.latent_paths import closed_paths, interpolate_codes
from genlab.media import Save, gif
from genlab.random_state import isolated_rng
from genlab.runs.errors import UsageError
from genlab.sampling.classes import class_numbers
from genlab.sampling.device import chosen_device
from genlab.sampling.labels import PredictedLabels, label_images
from genlab.sampling.output import captioned_grid, data_arrays, grid, grid_by_class
from genlab.sampling.overrides import override_sampling
from genlab.sampling.progress import progress
from genlab.sampling.run_data import class_names, training_data
from genlab.sampling.sample_folder import SampleFolder, number_names
from genlab.sampling.sampler import CheckpointSampler
from genlab.sampling.saving import check_new, save, whole_folder
from genlab.words import counted
from lit_models import GenerativeModule, Probe
from lit_models.common.capabilities import HasLatentBlocks, Samples, Translates

WAYPOINTS = 4
"""Codes that a closed interpolation goes through."""
FRAME_SECONDS = 0.08


def sample(options: argparse.Namespace) -> None:
    """Samples images from a checkpoint, and writes them.

    Raises:
        UsageError, DataError, CheckpointError: bad input, or a file cannot be written; nothing was written.
        OSError: a file cannot be read.
    """
    interpolates = options.interpolate or options.output.suffix == ".gif"
    _check_options(options, interpolates)
    device = chosen_device(options.device)
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
        elif options.to_folder:
            _write_folder(sampler, options, classes, classifier)
        else:
            _write_file(sampler, options, classes, classifier)


def _check_options(options: argparse.Namespace, interpolates: bool) -> None:
    if interpolates and (options.classifier or options.output.suffix == ".npz" or len(options.classes) > 1):
        raise UsageError(
            "interpolations have no labels; leave --classifier out, and give one --class and a .png or .gif"
        )
    if options.sort and not options.classifier:
        raise UsageError("--sort needs labels: give --classifier CKPT")
    if options.output.suffix == ".npz" and options.count == 1:
        raise UsageError("an .npz data set has at least 2 images, one of them for the test; give a larger --count")
    if options.to_folder:
        check_new(options.output)


def _class_numbers(sampler: CheckpointSampler, options: argparse.Namespace) -> list[int]:
    """The classes of --class, by the names in the data that the model was trained on, or by number."""
    if not options.classes:
        return []
    number = sampler.check_conditional()
    return class_numbers(options.classes, class_names(options.checkpoint, number, options.data, options.data_root))


def _count(sampler: CheckpointSampler, options: argparse.Namespace) -> int:
    return options.count or int(min(64, sampler.max_images))


def _batches(
    sampler: CheckpointSampler, count: int, classes: list[int]
) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
    """Yields images, their codes if they have any, and their classes: `classes` in equal parts, or None without any."""
    if not classes:
        yield from ((images, codes, None) for images, codes in sampler.batches(count))
    for place, label in enumerate(classes):
        share = count // len(classes) + (place < count % len(classes))
        for images, codes in sampler.batches(share, label) if share else ():
            yield images, codes, torch.full((len(images),), label)


def _write_folder(
    sampler: CheckpointSampler,
    options: argparse.Namespace,
    classes: list[int],
    classifier: GenerativeModule | None,
) -> None:
    """Writes samples batch by batch. A model that was trained with labels makes its classes in equal parts."""
    count, number = _count(sampler, options), sampler.num_classes
    if number is not None and not classes:
        classes = list(range(number))
    if classifier is not None:
        names = _classifier_names(classifier, options)
    elif classes:
        number = number or max(classes) + 1
        names = class_names(options.checkpoint, sampler.num_classes, options.data, options.data_root)
        names = names or number_names(number)
    else:
        names = []
    predicted: list[PredictedLabels] = []
    asked: list[Tensor] = []
    with whole_folder(options.output) as folder, progress() as bar:
        task, writer = bar.add_task("sampling", total=count), SampleFolder(folder, count, names)
        for images, codes, of_batch in _batches(sampler, count, classes):
            known = of_batch
            if classifier is not None:
                predicted.append(label_images(classifier, sampler.model, images, codes))
                known = predicted[-1].classes
            asked += [of_batch] if of_batch is not None else []
            writer.add(images, known)
            bar.advance(task, len(images))
    folders = f", in folders of {counted(len(writer.counts), 'class', 'classes')}" if names else ""
    print(f"wrote {options.output}: {counted(count, 'image')}{folders}")
    if classifier is not None:
        _print_counts(_joined(predicted), names, torch.cat(asked) if asked else None, isinstance(classifier, Probe))


def _write_file(
    sampler: CheckpointSampler,
    options: argparse.Namespace,
    classes: list[int],
    classifier: GenerativeModule | None,
) -> None:
    made = list(_batches(sampler, _count(sampler, options), classes))
    images = torch.cat([of_batch for of_batch, _, _ in made])
    codes = [of_batch for _, of_batch, _ in made if of_batch is not None]
    asked = torch.cat([of_batch for _, _, of_batch in made if of_batch is not None]) if classes else None
    if classifier is None:
        _write(options, images, None, asked, [])
        return
    labels = label_images(classifier, sampler.model, images, torch.cat(codes) if codes else None)
    names = _classifier_names(classifier, options)
    _write(options, images, labels, asked, names)
    _print_counts(labels, names, asked, isinstance(classifier, Probe))


def _classifier_names(classifier: GenerativeModule, options: argparse.Namespace) -> list[str]:
    number = classifier.hparams["num_classes"]
    names = class_names(options.classifier, number) or class_names(options.checkpoint, number)
    return names or [str(label) for label in range(number)]


def _joined(labels: list[PredictedLabels]) -> PredictedLabels:
    classes, probabilities, read_from = zip(*labels, strict=True)
    return PredictedLabels(torch.cat(classes), torch.cat(probabilities), read_from[0])


def _interpolate(sampler: CheckpointSampler, options: argparse.Namespace, label: int | None) -> None:
    if not sampler.has_codes():
        raise UsageError(f"{type(sampler.model).__name__} has no codes to interpolate; leave --interpolate out")
    animated = options.output.suffix == ".gif"
    count = options.count or (16 if animated else 8)
    waypoints, path = sampler.waypoints(count, WAYPOINTS if animated else 2, label), sampler.path()
    if animated:
        every = [sampler.decode(codes) for codes in closed_paths(waypoints, options.steps, path)]
        mode = "L" if every[0].shape[1] == 1 else "RGB"
        frames = [grid(images, _columns(options, count)).convert(mode) for images in every]
        save({options.output: gif(frames, FRAME_SECONDS, FRAME_SECONDS)})
    else:
        codes = interpolate_codes(waypoints[0], waypoints[1], options.steps, path).flatten(0, 1)
        picture = grid(sampler.decode(codes), options.steps)
        save({options.output: lambda file: picture.save(file, format="PNG")})
    print(f"wrote {options.output}: {count} interpolations")


def _write(
    options: argparse.Namespace,
    images: Tensor,
    labels: PredictedLabels | None,
    asked: Tensor | None,
    names: list[str],
) -> None:
    if options.output.suffix == ".npz":
        known = labels.classes if labels is not None else asked
        arrays = data_arrays(images, known)
        save({options.output: lambda file: np.savez_compressed(file, **arrays)})  # type: ignore[arg-type]
        note = "" if known is not None else "; no --classifier, so all labels are 0"
        print(
            f"wrote {options.output}: {counted(len(images), 'image')}, {len(arrays['x_test'])} of them as x_test{note}"
        )
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
    save(files)
    print(f"wrote {options.output}: {counted(len(images), 'image')}")
    if labels is not None:
        print(f"wrote {table}")


def _print_counts(labels: PredictedLabels, names: list[str], asked: Tensor | None, probe: bool) -> None:
    """How many images there are of each class."""
    why = ", as the probe's encoder is not the model's or there are no codes" if probe else ""
    print("labels were read from the codes" if labels.read_from == "code" else f"labels were read from the images{why}")
    table = Table("class", "images", "mean probability")
    for label, name in enumerate(names):
        of_class = labels.probabilities[labels.classes == label]
        table.add_row(name, str(len(of_class)), f"{of_class.mean():.3f}" if len(of_class) else "")
    Console().print(table)
    if asked is not None:
        print(f"class agreement {(labels.classes == asked).float().mean():.4f}")


def _pairs(labels: PredictedLabels) -> list[tuple[int, float]]:
    return list(zip(labels.classes.tolist(), labels.probabilities.tolist(), strict=True))


def _columns(options: argparse.Namespace, count: int) -> int:
    """As asked for; else a class a row where several were asked for; else about square."""
    classes = len(options.classes)
    by_class = count // classes if classes > 1 and count % classes == 0 else 0
    return options.columns or by_class or min(max(1, round(count**0.5)), 40)
