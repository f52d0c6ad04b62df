"""What the commands of this package share: options, error messages, and the training commands that they name."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from datamodules import DataError, ImageDataModule
from genlab.evaluation.classifier import EvaluationClassifier, find_evaluation_classifier
from genlab.runs.errors import UsageError
from lit_models import CheckpointError, GenerativeModule

BF16 = "--trainer.precision bf16-mixed"


def fit_command(config: str, *options: str) -> str:
    """Returns the command that trains a model by configs/<config>.yaml."""
    return " ".join([f"python train.py fit --config configs/{config}.yaml", *options])


def sweep_command(name: str, *options: str) -> str:
    """Returns the command that runs sweeps/<name>.yaml without a server."""
    return " ".join([f"python sweep.py run sweeps/{name}.yaml", *options])


def make_parser(description: str | None, data: bool = False) -> argparse.ArgumentParser:
    """Returns a parser with the option --root and, with `data`, --data-root."""
    parser = argparse.ArgumentParser(
        f"python -m studies.{Path(sys.argv[0]).stem}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
    if data:
        parser.add_argument(
            "--data-root", type=Path, default=Path("data"), help="folder that holds mnist.npz (default: %(default)s)"
        )
    return parser


def evaluation_classifier(data: ImageDataModule, root: Path) -> EvaluationClassifier:
    """Returns the classifier that `configs/classifier_<data>.yaml` has trained.

    Raises:
        UsageError: It is not there.
    """
    classifier = find_evaluation_classifier(None, data, data.image_shape, root)
    if classifier is None:
        command = fit_command(f"classifier_{data.classified_as or data.name}")
        raise UsageError(f"{root} holds no classifier of {data.name}; train it: `{command}`")
    return classifier


def load_measured(checkpoint: Path, classifier: EvaluationClassifier) -> GenerativeModule:
    """Loads a model whose images the classifier is to measure.

    Raises:
        CheckpointError: It cannot be loaded, or it learned other data than the classifier.
    """
    model = GenerativeModule.load(checkpoint)
    learned = {model.data_fingerprint, classifier.classifier.data_fingerprint} - {None}
    if len(learned) > 1:
        raise CheckpointError(
            f"{checkpoint} learned other images than the evaluation classifier; train both on the same data"
        )
    return model


def run_command(main: Callable[[], None]) -> NoReturn:
    """Runs a command and exits: with status 2 and its message on stderr when its input is wrong."""
    try:
        main()
    except (UsageError, DataError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)
