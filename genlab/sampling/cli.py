"""Images out of a checkpoint: new ones as a grid, by class, with labels or as data; walks; translations of yours."""

import argparse
import math
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from genlab.arguments import positive
from genlab.runs.errors import UsageError, describe_error

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from genlab.media import Save
    from genlab.sampling.labels import PredictedLabels
    from genlab.sampling.sampler import CheckpointSampler

EXAMPLES = """examples:
  python sample.py runs/vae_mnist/default/checkpoints/best.ckpt
  python sample.py CKPT --law mixture --components 20 --count 100 --output grid.png
  python sample.py CKPT --class 3,7 --count 20              ten of each class, a class a row
  python sample.py CKPT --interpolate                       walks between two random codes, one a row
  python sample.py CKPT --interpolate --class 3             walks in one class
  python sample.py DDPM --sampler DDIM --sampler-steps 25   fewer steps from noise to images
  python sample.py GLOW --temperature 0.7                   likelier images that differ less
  python sample.py CKPT --output walk.gif                   a round trip through the latent space
  python sample.py CKPT --classifier PROBE --sort           new images by class, and labels in samples.csv
  python sample.py CKPT --classifier PROBE --count 70000 --output made/mnist.npz
                                                            data: train.py fit ... --data.root made
  python sample.py CYCLEGAN --input photos --output made --compare
                                                            your own images, each beside its translation
  python sample.py CYCLEGAN --input photos --direction ba   the other way, into translated/

A plain autoencoder has no prior: a mixture of Gaussians is fitted to the codes of its training images, which are
those that config.yaml names in the folder of the run, or --data and --data-root. A classifier is a checkpoint of a
Classifier, which looks at the images, or of a Probe on the model's own frozen encoder, which reads the codes that
the images are made from. The same seed makes the same images.

A model of images to images translates those of --input, a folder or one file, each into NAME.png in --output.
"""
SUFFIXES = (".png", ".gif", ".npz")
OF_NEW_IMAGES = {
    "columns": "--columns",
    "classes": "--class",
    "law": "--law",
    "components": "--components",
    "data": "--data",
    "data_root": "--data-root",
    "interpolate": "--interpolate",
    "steps": "--steps",
    "classifier": "--classifier",
    "sort": "--sort",
    "sampler": "--sampler",
    "sampler_steps": "--sampler-steps",
    "guidance": "--guidance",
    "temperature": "--temperature",
}
"""Options that mean nothing where there is --input, by their names in the program."""
OF_TRANSLATIONS = {"direction": "--direction", "size": "--size", "compare": "--compare"}
"""Options that mean nothing where there is none."""
STOPS = 4
"""Codes that a round trip goes through."""
FRAME_SECONDS = 0.08
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def parser() -> argparse.ArgumentParser:
    made = Parser("sample.py", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("checkpoint", type=Path, metavar="CKPT", help="such as runs/EXPERIMENT/RUN/checkpoints/best.ckpt")
    made.add_argument(
        "--output",
        type=_path,
        metavar="FILE",
        help="a picture .png (default: samples.png), walks .gif,\nor data .npz of uint8 images and labels;\n"
        "with --input a folder (default: translated)",
    )
    made.add_argument(
        "--count",
        type=positive,
        metavar="N",
        help="images (default: 64, or as many as the model holds),\nor walks (8; in a GIF 16),"
        " or of --input the first N (default: all)",
    )
    made.add_argument("--columns", type=positive, metavar="N", help="of the picture (default: about square)")
    made.add_argument("--seed", type=_seed, default=0, help="default: 0")
    made.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    which = made.add_argument_group("what is drawn")
    which.add_argument(
        "--class",
        "--label",
        dest="classes",
        type=_classes,
        default=[],
        metavar="3 or 3,5,7",
        help="only these classes, in equal parts: of a model that was trained\nwith labels, or of a law that is fitted",
    )
    which.add_argument(
        "--law",
        choices=("prior", "mixture", "gaussian"),
        help="of the codes: the model's prior (default where it has one), or a\n"
        "mixture of Gaussians or a Gaussian fitted to the training images' codes",
    )
    which.add_argument("--components", type=positive, default=10, metavar="N", help="of the mixture (default: 10)")
    which.add_argument("--data", metavar="CLASS", help="training data, such as MNISTDataModule (default: the run's)")
    which.add_argument("--data-root", "--data.root", metavar="DIR", help="where they are (default: as in the run)")
    which.add_argument(
        "--interpolate",
        action="store_true",
        help="walks between random codes, along arcs under a normal prior, else straight;\n"
        "of a model that was trained with labels each within a class",
    )
    which.add_argument("--steps", type=_steps, default=10, metavar="N", help="images from code to code (default: 10)")
    how = made.add_argument_group("how it is drawn")
    how.add_argument(
        "--sampler",
        choices=("DDIM", "Ancestral", "AnnealedLangevin"),
        help="of a model of images out of noise (default: its own)",
    )
    how.add_argument("--sampler-steps", type=positive, metavar="N", help="levels of noise that it goes through")
    how.add_argument("--guidance", type=_not_negative, metavar="W", help="towards the class, of a DDPM with labels")
    how.add_argument("--temperature", type=_not_negative, metavar="T", help="of a flow's codes; 1 as it was trained")
    label = made.add_argument_group("labels")
    label.add_argument("--classifier", type=Path, metavar="CKPT", help="label each image, and write the labels as CSV")
    label.add_argument("--sort", action="store_true", help="one class a row, the most probable images first")
    given = made.add_argument_group("translations")
    given.add_argument("--input", type=_path, metavar="FOLDER", help="of images to translate, or one image file")
    given.add_argument(
        "--direction", choices=("ab", "ba"), default="ab", help="from sources to targets (default), or back"
    )
    given.add_argument(
        "--size",
        choices=("model", "own"),
        help="model: shorter side and middle as in training (default);\n"
        "own: as it is (default where images are enlarged)",
    )
    given.add_argument(
        "--compare", action="store_true", help="each original, as the model saw it, beside its translation"
    )
    return made


def read_options(args: list[str] | None) -> argparse.Namespace:
    """The command line, read and found to go together; else it ends here, with status 2."""
    made = parser()
    options = made.parse_args(args, argparse.Namespace(**dict.fromkeys(OF_NEW_IMAGES | OF_TRANSLATIONS)))
    translates = options.input is not None
    foreign, why = (OF_NEW_IMAGES, "not with --input") if translates else (OF_TRANSLATIONS, "only with --input FOLDER")
    named = ", ".join(flag for name, flag in foreign.items() if getattr(options, name) is not None)
    if named:
        made.error(f"{named}: {why}")
    for name in OF_NEW_IMAGES | OF_TRANSLATIONS:
        if getattr(options, name) is None:
            setattr(options, name, made.get_default(name))
    options.output = options.output or Path("translated" if translates else "samples.png")
    is_file = options.output.suffix in SUFFIXES
    if translates and is_file:
        made.error(f"argument --output: with --input a folder, not '{options.output}'")
    if not translates and not is_file:
        made.error(f"argument --output: '{options.output}' ends in none of {', '.join(SUFFIXES)}")
    return options


def main(args: list[str] | None = None) -> int:
    """Exit status 2 for bad input, in one line."""
    options = read_options(args)
    from datamodules import DataError
    from lit_models import CheckpointError

    try:
        if options.input is None:
            sample(options)
        else:
            translate(options)
    except (UsageError, DataError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else describe_error(error)
        print(f"error: {what}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    return 0


def sample(options: argparse.Namespace) -> None:
    """Draws and writes what is asked for.

    Raises:
        UsageError, DataError, CheckpointError: bad input, or a file cannot be written; nothing was written.
        OSError: a file cannot be read.
    """
    from genlab.random_state import isolated_rng
    from genlab.sampling.labels import label_images
    from genlab.sampling.overrides import override_sampling
    from genlab.sampling.run_data import class_names, training_data
    from genlab.sampling.sampler import CheckpointSampler
    from lit_models import GenerativeModule, Probe
    from lit_models.common.capabilities import HasLatentBlocks, Samples, Translates

    walking = options.interpolate or options.output.suffix == ".gif"
    if walking and (options.classifier or options.output.suffix == ".npz" or len(options.classes) > 1):
        raise UsageError("walks have no labels and are no data: use --interpolate with at most one --class, and .png")
    if options.sort and not options.classifier:
        raise UsageError("--sort needs labels: give --classifier CKPT")
    if options.output.suffix == ".npz" and options.count == 1:
        raise UsageError("data are of 2 images at least, one of them for the test; give a larger --count")
    device = _device(options.device)
    model = GenerativeModule.load(options.checkpoint).to(device)
    override_sampling(model, options.sampler, options.sampler_steps, options.guidance, options.temperature)
    if isinstance(model, Translates) and not isinstance(model, Samples | HasLatentBlocks):
        raise UsageError(f"{type(model).__name__} makes images of images: give --input FOLDER")
    classifier = GenerativeModule.load(options.classifier).to(device) if options.classifier else None
    sampler = CheckpointSampler(
        model,
        options.law,
        lambda: training_data(options.checkpoint, options.data, options.data_root),
        options.components,
        options.seed,
    )
    with isolated_rng(options.seed):
        if walking:
            _walk(sampler, options)
            return
        images, codes, asked = _draw(sampler, options)
    if classifier is None:
        _write(options, images, None, asked, [])
        return
    labels = label_images(classifier, model, images, codes)
    names = class_names((options.classifier, options.checkpoint), classifier.hparams["num_classes"])
    _write(options, images, labels, asked, names)
    _tell(labels, names, asked, isinstance(classifier, Probe))


def translate(options: argparse.Namespace) -> None:
    """Translates a user's images, each into a file of its own, once all of them have been read.

    Raises:
        UsageError, DataError, CheckpointError: bad input, or a file cannot be written; what was written is whole.
        OSError: a folder cannot be read.
    """
    from rich.console import Console
    from rich.progress import Progress

    from genlab.random_state import isolated_rng
    from genlab.sampling.translate_files import FileTranslator, destinations, images_and_others
    from lit_models import GenerativeModule

    originals, others = images_and_others(options.input)
    places = destinations(originals[: options.count], options.input, options.output)
    model = GenerativeModule.load(options.checkpoint).to(_device(options.device))
    translator = FileTranslator(model, options.direction, options.size)
    unseen = not sys.stderr.isatty()
    with isolated_rng(options.seed), Progress(console=Console(stderr=True), transient=True, disable=unseen) as bar:
        shapes = {path: translator.read(path).shape for path in bar.track(places, description="reading")}
        made = translator.pictures(shapes, options.compare)
        for path, picture in bar.track(made, len(places), description="translating"):
            _save({places[path]: partial(picture.save, format="PNG")})
    kinds = ", ".join(sorted({file.suffix or "no suffix" for file in others}))
    note = f"; other files in {options.input} left out: {len(others)} ({kinds})" if others else ""
    print(f"wrote {options.output}: {len(places)} images{note}")


def _draw(sampler: "CheckpointSampler", options: argparse.Namespace) -> "tuple[Tensor, Tensor | None, Tensor | None]":
    """Images, their codes if they have any, and the classes asked for if any, in that order."""
    import torch

    count, classes = options.count or int(min(64, sampler.max_images)), options.classes
    if not classes:
        return *sampler.sample(count), None
    shares = [count // len(classes) + (place < count % len(classes)) for place in range(len(classes))]
    drawn = [(label, *sampler.sample(share, label)) for label, share in zip(classes, shares, strict=True) if share]
    codes = [made for _, _, made in drawn if made is not None]
    asked = torch.cat([torch.full((len(images),), label) for label, images, _ in drawn])
    return torch.cat([images for _, images, _ in drawn]), torch.cat(codes) if codes else None, asked


def _walk(sampler: "CheckpointSampler", options: argparse.Namespace) -> None:
    from genlab.latent_paths import closed_paths, interpolate_codes
    from genlab.media import gif
    from genlab.sampling.output import grid

    if not sampler.has_codes():
        raise UsageError(f"{type(sampler.model).__name__} has no codes to walk between; leave --interpolate out")
    label = options.classes[0] if options.classes else None
    moving = options.output.suffix == ".gif"
    count = options.count or (16 if moving else 8)
    stops, route = sampler.waypoints(count, STOPS if moving else 2, label), sampler.path()
    if moving:
        every = [sampler.decode(codes) for codes in closed_paths(stops, options.steps, route)]
        mode = "L" if every[0].shape[1] == 1 else "RGB"
        frames = [grid(images, _columns(options, count)).convert(mode) for images in every]
        _save({options.output: gif(frames, FRAME_SECONDS, FRAME_SECONDS)})
    else:
        codes = interpolate_codes(stops[0], stops[1], options.steps, route).flatten(0, 1)
        picture = grid(sampler.decode(codes), options.steps)
        _save({options.output: lambda file: picture.save(file, format="PNG")})
    print(f"wrote {options.output}: {count} walks")


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


def _tell(labels: "PredictedLabels", names: list[str], asked: "Tensor | None", probe: bool) -> None:
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


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _steps(text: str) -> int:
    if positive(text) < 2:
        raise argparse.ArgumentTypeError("a walk has at least 2 steps")
    return int(text)


def _not_negative(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 0")
    return number


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^32 - 1")
    return int(text)


def _classes(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no class, such as 3, nor different ones, such as 3,5,7")
    return [int(part) for part in parts]
