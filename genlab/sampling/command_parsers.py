"""The parsers of the named commands of sample.py: reconstruct, translate, encode, interpolate, score."""

import argparse
from pathlib import Path

from genlab.arguments import Parser, positive
from genlab.sampling import argument_types

SUMMARIES = {
    "reconstruct": "Reconstruct your own images, each into a file.",
    "translate": "Translate your own images, each into a file.",
    "encode": "Write the codes of your own images to a file.",
    "interpolate": "Draw the images between two images of yours.",
    "score": "Measure a folder of samples against real images.",
}
DESCRIPTIONS = {
    "reconstruct": """
Reconstructs the images of a folder with an autoencoder, a VAE, Glow or GLO. Each becomes a PNG file of the same name
in the same sub-folder of --output. Where two would get the same name, they keep their suffixes: a.jpg.png, a.png.png.
""",
    "translate": """
Translates the images of a folder with an image-to-image model. Each becomes a PNG file of the same name in the same
sub-folder of --output. Where two would get the same name, they keep their suffixes: a.jpg.png, a.png.png.
""",
    "encode": """
Writes the code of each image of a folder, with its file name and its label, which is the name of its sub-folder.
Autoencoders, VAEs (the means), Glow and GLO (slowly, by optimization) have codes; those of a classifier are its
features.
""",
    "interpolate": """
Draws the images between two images of yours: both are encoded, and the codes between them decoded, along an arc under
a normal prior, else along a straight line. The ends are the reconstructions of the two.
""",
    "score": """
Measures samples (DIR_B) against real images (DIR_A) by the features of a network:

  frechet              Frechet distance of the features (FID, by Inception's), lower is better
  kernel               squared kernel distance of the features (KID, by Inception's), lower is better
  precision, recall    shares of samples among real images, of real images among samples, higher is better
  density, coverage    the same by the neighbourhoods of real images only, higher is better

All images are brought to one size: that of the classifier, or else --size or that of the first sample. The key of a
score names the features; scores by other features or of other numbers of images are not comparable.
""",
}
EXAMPLES = {
    "reconstruct": ["reconstruct CKPT --input photos --output reconstructed --compare"],
    "translate": [
        "translate CKPT --input photos --output translated --compare",
        "translate CKPT --input photos --direction ba     the other direction",
    ],
    "encode": [
        "encode CKPT --input photos --output codes.npz    arrays files, labels, class_names, codes",
        "encode CKPT --input photos --output codes.csv    columns file, label, code_0, code_1, ...",
    ],
    "interpolate": [
        "interpolate CKPT --input a.jpg b.jpg             a row of 10 images",
        "interpolate CKPT --input a.jpg b.jpg --steps 30 --compare --output between.gif",
    ],
    "score": [
        "score photos made                                by Inception, if its weights are there",
        "score photos made --features CLASSIFIER          by a Classifier that was trained on such images",
        "score mnist.npz made.npz --features CLASSIFIER --count 5000 --output scores.json",
    ],
}


def command_parsers(prog: str) -> dict[str, Parser]:
    """The parser of each command, by its name."""
    made = {name: _parser(name, prog) for name in SUMMARIES}
    for name in ("reconstruct", "translate"):
        _add_files(made[name], name)
    _add_encode(made["encode"])
    _add_interpolate(made["interpolate"])
    _add_score(made["score"])
    return made


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, ... (default: auto, a GPU if there is one)."
    )


def add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--import",
        dest="imports",
        metavar="PACKAGE",
        help="Your own package to import first, needed when the checkpoint holds a model of that\n"
        "package, as a checkpoint imports nothing by itself; several are separated by commas.",
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=argument_types.seed, default=0, help="Seed of the random numbers (default: 0).")


def add_reading(parser: argparse._ActionsContainer) -> None:
    """How image files are read."""
    parser.add_argument(
        "--value-range",
        type=argument_types.value_range,
        metavar="LOW,HIGH",
        help="Values of black and white in images of more than 8 bits, such as 0,4095\n"
        "(default: those of the training, or else the range of the file type).",
    )
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="Largest number of pixels of an image; larger ones are refused (default: 80 million).",
    )


def add_skip_broken(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--skip-broken", action="store_true", help="Leave out files that cannot be read, instead of stopping."
    )


def add_size(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--size",
        choices=("model", "own"),
        help="model: as the images of the training (default).\n"
        "own: the size of the file (default of super-resolution).",
    )


def add_direction(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--direction",
        choices=("ab", "ba"),
        default="ab",
        help="ab: from source to target images (default); ba: back.",
    )


def add_compare(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--compare", action="store_true", help="Draw each input, as the model saw it, beside its result."
    )


def _parser(name: str, prog: str) -> Parser:
    command = prog if " " in prog else f"python {prog}"
    examples = "\n".join(["examples:", *(f"  {command} {example}" for example in EXAMPLES[name])])
    made = Parser(
        f"{prog} {name}",
        description=DESCRIPTIONS[name].strip(),
        epilog=examples,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    made.set_defaults(command=name)
    return made


def _add_checkpoint(parser: Parser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, metavar="CKPT", help="Checkpoint, such as runs/EXPERIMENT/RUN/checkpoints/best.ckpt."
    )


def _add_files(parser: Parser, verb: str) -> None:
    parser.set_defaults(command="translate", verb=verb, direction="ab")
    _add_checkpoint(parser)
    parser.add_argument(
        "--input",
        type=argument_types.path,
        required=True,
        metavar="DIR",
        help="Folder of images, with or without sub-folders, or one image.",
    )
    parser.add_argument(
        "--output", type=argument_types.path, metavar="DIR", help=f"Folder of the results (default: {verb}ed)."
    )
    parser.add_argument("--count", type=positive, metavar="N", help="Only the first N images (default: all).")
    if verb == "translate":
        add_direction(parser)
    add_size(parser)
    add_compare(parser)
    add_reading(parser)
    add_skip_broken(parser)
    add_seed(parser)
    add_device(parser)
    add_import(parser)


def _add_encode(parser: Parser) -> None:
    _add_checkpoint(parser)
    parser.add_argument(
        "--input",
        type=argument_types.path,
        required=True,
        metavar="DIR",
        help="Folder of images, with a sub-folder for each class or without, or one image.",
    )
    parser.add_argument(
        "--output",
        type=argument_types.file_with(".npz", ".csv"),
        required=True,
        metavar="FILE",
        help="File to write: .npz with the arrays files, labels (numbers), class_names and codes,\n"
        "or .csv with the columns file, label, code_0, code_1, ...",
    )
    parser.add_argument("--count", type=positive, metavar="N", help="Only the first N images (default: all).")
    add_reading(parser)
    add_skip_broken(parser)
    add_device(parser)
    add_import(parser)


def _add_interpolate(parser: Parser) -> None:
    _add_checkpoint(parser)
    parser.add_argument(
        "--input",
        type=argument_types.path,
        required=True,
        nargs=2,
        metavar=("FILE", "FILE"),
        help="The two images.",
    )
    parser.add_argument(
        "--output",
        type=argument_types.file_with(".png", ".gif"),
        default=Path("between.png"),
        metavar="FILE",
        help="File to write: a row of images (.png, default: between.png), or an animation there and\nback (.gif).",
    )
    parser.add_argument(
        "--steps",
        type=argument_types.steps,
        default=10,
        metavar="N",
        help="Images from one end to the other (default: 10).",
    )
    parser.add_argument(
        "--compare", action="store_true", help="Draw the two files too, as the model saw them, at both ends."
    )
    add_reading(parser)
    add_device(parser)
    add_import(parser)


def _add_score(parser: Parser) -> None:
    parser.add_argument(
        "real", type=argument_types.path, metavar="DIR_A", help="Real images: a folder, or an .npz or .npy file."
    )
    parser.add_argument(
        "samples", type=argument_types.path, metavar="DIR_B", help="Samples: a folder, or an .npz or .npy file."
    )
    parser.add_argument(
        "--features",
        metavar="inception|CKPT",
        help="What measures the images: a checkpoint of a Classifier that was trained on such\n"
        "images, or Inception, whose weights are downloaded if they are missing (default:\n"
        "Inception if its weights are there).",
    )
    parser.add_argument(
        "--inception-weights", metavar="FILE", help="File of Inception's weights, as torch-fidelity has them."
    )
    parser.add_argument(
        "--size",
        type=positive,
        metavar="N",
        help="Height and width that all images get before Inception (default: those of the first\nsample).",
    )
    parser.add_argument(
        "--count", type=positive, metavar="N", help="At most N images of each set, drawn at random (default: all)."
    )
    parser.add_argument(
        "--output",
        type=argument_types.file_with(".json", ".csv"),
        metavar="FILE",
        help="File to write the scores to: .json, or .csv of one row.",
    )
    add_reading(parser)
    add_skip_broken(parser)
    add_seed(parser)
    add_device(parser)
    add_import(parser)
