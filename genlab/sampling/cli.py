"""The command line of sample.py: samples from a checkpoint, interpolations, labelled data sets, your own images."""

import argparse
import math
import sys
from pathlib import Path

from genlab.arguments import Parser, import_packages, positive
from genlab.runs.errors import UsageError, describe_error

DESCRIPTION = (
    "Samples images from a checkpoint, interpolates between codes, translates or reconstructs your own images."
)
EXAMPLES = """examples:
  PROG runs/vae_mnist/default/checkpoints/best.ckpt
  PROG CKPT --sample-from mixture --components 20 --count 100 --output grid.png
  PROG CKPT --class 3,7 --count 20               ten images of each class, one class a row
  PROG CKPT --interpolate                        interpolations between two random codes, one a row
  PROG CKPT --interpolate --class 3              interpolations within one class
  PROG CKPT --output interpolation.gif           the same as an animation that ends where it began
  PROG DDPM --sampler DDIM --sampler-steps 25    fewer denoising steps
  PROG DDPM --class 3 --guidance-scale 2         stronger classifier-free guidance
  PROG GLOW --temperature 0.7                    likelier images, with less variety
  PROG CKPT --classifier PROBE --sort            labelled images, sorted by class; labels in samples.csv
  PROG CKPT --classifier PROBE --count 70000 --output made/mnist.npz
                                                 a labelled data set, to train on with --data.root made
  PROG CYCLEGAN --input photos --output made --compare
                                                 your own images, each beside its translation
  PROG CYCLEGAN --input photos --direction ba    the other direction, into the folder translated
  PROG VAE --input photos --compare              reconstructions, into the folder reconstructed

A plain autoencoder has no prior. A mixture of Gaussians is fitted to the codes of its training images instead; the
config.yaml of the run says which these are, or --data and --data-root. A classifier is a checkpoint of a Classifier,
which labels images, or of a Probe on the frozen encoder of the same model, which labels latent codes. The same seed
gives the same images.

An image-to-image model translates the images of --input, a folder or one file, each into NAME.png in --output. An
autoencoder or a VAE reconstructs them.
"""
SUFFIXES = (".png", ".gif", ".npz")
SAMPLING_ONLY = {
    "columns": "--columns",
    "classes": "--class",
    "sample_from": "--sample-from",
    "components": "--components",
    "data": "--data",
    "data_root": "--data-root",
    "interpolate": "--interpolate",
    "steps": "--steps",
    "classifier": "--classifier",
    "sort": "--sort",
    "sampler": "--sampler",
    "sampler_steps": "--sampler-steps",
    "guidance_scale": "--guidance-scale",
    "temperature": "--temperature",
}
"""Options that have no meaning with --input, by their names in the program."""
TRANSLATION_ONLY = {
    "direction": "--direction",
    "size": "--size",
    "compare": "--compare",
    "value_range": "--value-range",
    "max_pixels": "--max-pixels",
}
"""Options that have no meaning without --input."""


def parser(prog: str = "sample.py") -> Parser:
    command = prog if " " in prog else f"python {prog}"
    made = Parser(
        prog,
        description=DESCRIPTION,
        epilog=EXAMPLES.replace("PROG", command),
        formatter_class=argparse.RawTextHelpFormatter,
    )
    made.add_argument(
        "checkpoint", type=Path, metavar="CKPT", help="Checkpoint, such as runs/EXPERIMENT/RUN/checkpoints/best.ckpt."
    )
    made.add_argument(
        "--output",
        type=_path,
        metavar="FILE",
        help="File to write: a picture (.png, default: samples.png), an animated interpolation\n"
        "(.gif), or a data set of uint8 images and labels (.npz). With --input: a folder\n"
        "(default: translated, or reconstructed).",
    )
    made.add_argument(
        "--count",
        type=positive,
        metavar="N",
        help="Number of images (default: 64, or all that the model has) or of interpolations\n"
        "(default: 8, in a GIF 16). With --input: only the first N images (default: all).",
    )
    made.add_argument("--columns", type=positive, metavar="N", help="Images in a row (default: about a square).")
    made.add_argument("--seed", type=_seed, default=0, help="Seed of the random numbers (default: 0).")
    made.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: auto, a GPU if there is one).")
    made.add_argument(
        "--import",
        dest="imports",
        metavar="PACKAGE",
        help="Your own package to import first, needed when the checkpoint holds a model of that\n"
        "package, as a checkpoint imports nothing by itself; several are separated by commas.",
    )
    which = made.add_argument_group("what is sampled")
    which.add_argument(
        "--class",
        "--label",
        dest="classes",
        type=_classes,
        default=[],
        metavar="CLASSES",
        help="Only these classes, in equal parts, by name or number, as in 3,5,7 or star,moon.\n"
        "The model was trained with labels, or --sample-from is mixture or gaussian.",
    )
    which.add_argument(
        "--sample-from",
        choices=("prior", "mixture", "gaussian"),
        help="Distribution of the latent codes: the prior of the model (default where it has\n"
        "one), or a mixture of Gaussians or one Gaussian fitted to the codes of training images.",
    )
    which.add_argument(
        "--components", type=positive, default=10, metavar="N", help="Gaussians of the mixture (default: 10)."
    )
    which.add_argument("--data", metavar="CLASS", help="Data module of the training images (default: that of the run).")
    which.add_argument(
        "--data-root", "--data.root", metavar="DIR", help="Folder of the training images (default: that of the run)."
    )
    which.add_argument(
        "--interpolate",
        action="store_true",
        help="Interpolate between random codes: along arcs under a normal prior, else along\n"
        "straight lines; within a class where the model was trained with labels.",
    )
    which.add_argument(
        "--steps", type=_steps, default=10, metavar="N", help="Images from one code to the next (default: 10)."
    )
    how = made.add_argument_group("how it is sampled")
    how.add_argument(
        "--sampler",
        choices=("DDIM", "Ancestral", "AnnealedLangevin"),
        help="Sampler of a diffusion or score model (default: that of the model).",
    )
    how.add_argument("--sampler-steps", type=positive, metavar="N", help="Noise levels that the sampler goes through.")
    how.add_argument(
        "--guidance-scale",
        type=_not_negative,
        metavar="W",
        help="Weight of classifier-free guidance towards the class, of a DDPM with labels.",
    )
    how.add_argument(
        "--temperature",
        type=_not_negative,
        metavar="T",
        help="Factor on the standard deviation of a flow's latent codes; 1 is the prior.",
    )
    label = made.add_argument_group("labels")
    label.add_argument(
        "--classifier", type=Path, metavar="CKPT", help="Classifier that labels the images; the labels become a CSV."
    )
    label.add_argument("--sort", action="store_true", help="Draw one class a row, with the most probable images first.")
    given = made.add_argument_group("your own images")
    given.add_argument(
        "--input", type=_path, metavar="FOLDER", help="Folder of images to translate or to reconstruct, or one image."
    )
    given.add_argument(
        "--direction",
        choices=("ab", "ba"),
        default="ab",
        help="ab: from source to target images (default); ba: back.",
    )
    given.add_argument(
        "--size",
        choices=("model", "own"),
        help="model: the shorter side and the centre crop of the training (default).\n"
        "own: the size of the file (default of super-resolution).",
    )
    given.add_argument(
        "--value-range",
        type=_value_range,
        metavar="LOW,HIGH",
        help="Values of black and white in images of more than 8 bits, such as 0,4095\n"
        "(default: those of the training, or else the range of the file type).",
    )
    given.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="Largest number of pixels of an image; larger ones are refused (default: 80 million).",
    )
    given.add_argument(
        "--compare", action="store_true", help="Draw each input, as the model saw it, beside its result."
    )
    return made


def read_options(args: list[str] | None, prog: str = "sample.py") -> argparse.Namespace:
    """Parses the command line, and checks that its options fit together; ends with status 2 where they do not."""
    made = parser(prog)
    options = made.parse_args(args, argparse.Namespace(**dict.fromkeys(SAMPLING_ONLY | TRANSLATION_ONLY)))
    translates = options.input is not None
    unfit, why = (SAMPLING_ONLY, "not with --input") if translates else (TRANSLATION_ONLY, "only with --input FOLDER")
    named = ", ".join(flag for name, flag in unfit.items() if getattr(options, name) is not None)
    if named:
        made.error(f"{named}: {why}")
    for name in SAMPLING_ONLY | TRANSLATION_ONLY:
        if getattr(options, name) is None:
            setattr(options, name, made.get_default(name))
    if not translates and options.output is None:
        options.output = Path("samples.png")
    is_file = options.output is not None and options.output.suffix in SUFFIXES
    if translates and is_file:
        made.error(f"argument --output: with --input a folder, not '{options.output}'")
    if not translates and not is_file:
        made.error(f"argument --output: '{options.output}' ends in none of {', '.join(SUFFIXES)}")
    return options


def main(args: list[str] | None = None, prog: str = "sample.py") -> int:
    """Exit status 2 for bad input, in one line."""
    options = read_options(args, prog)
    from datamodules import DataError
    from genlab.sampling.commands import sample, translate
    from lit_models import CheckpointError

    try:
        import_packages(options.imports)
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
    return 0


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _steps(text: str) -> int:
    if positive(text) < 2:
        raise argparse.ArgumentTypeError("an interpolation has at least 2 steps")
    return int(text)


def _not_negative(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return number


def _value_range(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers of which the second is larger, such as 0,4095")
    return low, high


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^32 - 1")
    return int(text)


def _classes(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a class, such as 3 or star, or several, such as 3,5,7")
    return parts
