"""The command line of sample.py: samples from a checkpoint, and commands for your own images."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genlab.arguments import Parser, import_packages, positive
from genlab.runs.errors import UsageError, describe_error
from genlab.sampling import argument_types
from genlab.sampling.command_parsers import (
    SUMMARIES,
    add_compare,
    add_device,
    add_direction,
    add_import,
    add_reading,
    add_seed,
    add_size,
    add_skip_broken,
    command_parsers,
)

DESCRIPTION = """Samples images from a checkpoint, or interpolates between codes. Your own images have commands:

COMMANDS"""
EXAMPLES = """examples:
  PROG runs/vae_mnist/default/checkpoints/best.ckpt
  PROG CKPT --sample-from mixture --components 20 --count 100 --output grid.png
  PROG CKPT --count 1000 --output made/          a folder of PNG files, made/CLASS/00000.png with classes
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
  PROG VAE --input photos --compare              the same as the command reconstruct (for a CycleGAN: translate)

A plain autoencoder has no prior. A mixture of Gaussians is fitted to the codes of its training images instead: those of
the run's config.yaml, or those that --data and --data-root name. A classifier is a checkpoint of a Classifier,
which labels images, or of a Probe on the frozen encoder of the same model, which labels latent codes. The same seed
gives the same images.
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
    "skip_broken": "--skip-broken",
}
"""Options that have no meaning without --input."""
PICTURE_ONLY = {"columns": "--columns", "sort": "--sort", "interpolate": "--interpolate", "steps": "--steps"}
"""Options that have no meaning with a folder of files."""


class SampleParser(Parser):
    """Parses `CKPT ...` itself, and gives `COMMAND ...` to the parser of the command."""

    commands: dict[str, Parser]

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        args = sys.argv[1:] if args is None else list(args)
        command = self.chosen(args)
        if command is not self:
            return command.parse_known_args(args[1:])  # the namespace has the options of sampling
        return super().parse_known_args(args, namespace)

    def chosen(self, args: Sequence[str]) -> Parser:
        return self.commands.get(args[0], self) if args else self


def parser(prog: str = "sample.py") -> SampleParser:
    command = prog if " " in prog else f"python {prog}"
    commands = "\n".join(f"  {command} {name:<11} --help   {text}" for name, text in SUMMARIES.items())
    made = SampleParser(
        prog,
        usage=f"{prog} CKPT [options]\n       {prog} {' | '.join(SUMMARIES)} ...",
        description=DESCRIPTION.replace("COMMANDS", commands),
        epilog=EXAMPLES.replace("PROG", command),
        formatter_class=argparse.RawTextHelpFormatter,
    )
    made.commands = command_parsers(prog)
    made.set_defaults(command="sample")
    made.add_argument(
        "checkpoint", type=Path, metavar="CKPT", help="Checkpoint, such as runs/EXPERIMENT/RUN/checkpoints/best.ckpt."
    )
    made.add_argument(
        "--output",
        metavar="FILE",
        help="What to write: a picture (.png, default: samples.png), an animated interpolation\n"
        "(.gif), a data set of uint8 images and labels (.npz), or a new folder of PNG files (no\n"
        "suffix, or a slash at the end), with sub-folders of classes if there are classes.",
    )
    made.add_argument(
        "--count",
        type=positive,
        metavar="N",
        help="Number of images (default: 64, or all that the model has) or of interpolations\n"
        "(default: 8, in a GIF 16).",
    )
    made.add_argument("--columns", type=positive, metavar="N", help="Images in a row (default: about a square).")
    add_seed(made)
    add_device(made)
    add_import(made)
    which = made.add_argument_group("what is sampled")
    which.add_argument(
        "--class",
        "--label",
        dest="classes",
        type=argument_types.classes,
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
        "--steps",
        type=argument_types.steps,
        default=10,
        metavar="N",
        help="Images from one code to the next (default: 10).",
    )
    how = made.add_argument_group("how it is sampled")
    how.add_argument(
        "--sampler",
        choices=(
            *("DDIM", "Ancestral", "AnnealedLangevin", "EDMSampler", "DPMSolver"),
            *("Euler", "Midpoint", "Heun", "AdaptiveODE"),
        ),
        help="Sampler of a model from noise (default: that of the model). The last four are for\n"
        "models of continuous time.",
    )
    how.add_argument(
        "--sampler-steps", type=positive, metavar="N", help="Steps or noise levels that the sampler goes through."
    )
    how.add_argument(
        "--guidance-scale",
        type=argument_types.not_negative,
        metavar="W",
        help="Weight of classifier-free guidance towards the class, of a DDPM with labels.",
    )
    how.add_argument(
        "--temperature",
        type=argument_types.not_negative,
        metavar="T",
        help="Factor on the standard deviation of a flow's latent codes, 1 being the prior; or the temperature of an"
        " autoregressive model.",
    )
    label = made.add_argument_group("labels")
    label.add_argument(
        "--classifier",
        type=Path,
        metavar="CKPT",
        help="Classifier that labels the images; the labels become a CSV, or the folders.",
    )
    label.add_argument("--sort", action="store_true", help="Draw one class a row, with the most probable images first.")
    given = made.add_argument_group("your own images")
    given.add_argument(
        "--input",
        type=argument_types.path,
        metavar="DIR",
        help="Folder of images to reconstruct or to translate, or one image, with the options of the\n"
        "commands `reconstruct` and `translate`.",
    )
    for add in (add_direction, add_size, add_compare, add_reading, add_skip_broken):
        add(given)
    for action in given._group_actions[1:]:
        action.help = argparse.SUPPRESS
    return made


def read_options(args: list[str] | None, prog: str = "sample.py") -> argparse.Namespace:
    """Parses the command line, and checks that its options fit together; ends with status 2 where they do not."""
    made = parser(prog)
    options = made.parse_args(args, argparse.Namespace(**dict.fromkeys(SAMPLING_ONLY | TRANSLATION_ONLY)))
    if options.command != "sample":
        return options
    translates = options.input is not None
    unfit, why = (SAMPLING_ONLY, "not with --input") if translates else (TRANSLATION_ONLY, "only with --input FOLDER")
    _refuse(made, options, unfit, why)
    options.to_folder = not translates and options.output is not None and argument_types.is_folder_name(options.output)
    if options.to_folder:
        _refuse(made, options, PICTURE_ONLY, "not with a folder as --output")
    for name in SAMPLING_ONLY | TRANSLATION_ONLY:
        if getattr(options, name) is None:
            setattr(options, name, made.get_default(name))
    output = options.output or (None if translates else "samples.png")
    options.output = output and argument_types.path(output)
    is_file = options.output is not None and options.output.suffix in SUFFIXES
    if translates and is_file:
        made.error(f"argument --output: with --input a folder, not '{options.output}'")
    if not translates and not is_file and not options.to_folder:
        made.error(f"argument --output: '{options.output}' ends in none of {', '.join(SUFFIXES)}, or / for a folder")
    if translates:
        options.command, options.verb = "translate", None
    return options


def _refuse(made: Parser, options: argparse.Namespace, unfit: dict[str, str], why: str) -> None:
    named = ", ".join(flag for name, flag in unfit.items() if getattr(options, name) is not None)
    if named:
        made.error(f"{named}: {why}")


def main(args: list[str] | None = None, prog: str = "sample.py") -> int:
    """Exit status 2 for bad input, in one line."""
    options = read_options(args, prog)
    from datamodules import DataError
    from lit_models import CheckpointError

    try:
        import_packages(options.imports)
        _download_checkpoints(options)
        _run(options)
    except (UsageError, DataError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else describe_error(error)
        print(f"error: {what}", file=sys.stderr)
        return 2
    return 0


def _download_checkpoints(options: argparse.Namespace) -> None:
    """Replaces references to checkpoints on W&B by the downloaded files.

    Raises:
        UsageError: One cannot be downloaded.
    """
    from genlab.runs.wandb_checkpoints import checkpoint_file, is_reference

    for name in ("checkpoint", "classifier", "features"):
        if is_reference(value := str(getattr(options, name, None))):
            setattr(options, name, checkpoint_file(value))


def _run(options: argparse.Namespace) -> None:
    from genlab.sampling.encode_files import encode
    from genlab.sampling.interpolate_files import interpolate
    from genlab.sampling.sample_checkpoint import sample
    from genlab.sampling.score_folders import score
    from genlab.sampling.translate_files import translate

    commands = (sample, translate, encode, interpolate, score)
    {command.__name__: command for command in commands}[options.command](options)
