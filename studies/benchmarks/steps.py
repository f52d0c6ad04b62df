"""What the benchmarks of `fit` against a bare loop of training steps share: their options and their report."""

import argparse
import os
import statistics
from collections.abc import Callable, Iterable

import torch
from lightning import Trainer

from studies.benchmarks import machine
from studies.benchmarks.overhead import Epoch, measure, summary


def make_parser(description: str | None, models: Iterable[str], files: str = "mnist.npz") -> argparse.ArgumentParser:
    """Returns a parser with the options that all these benchmarks have.

    Args:
        description: Text at the head of the help.
        models: Names of the models that can be measured.
        files: Names of the data files, for the help of --root.
    """
    names = list(models)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help=f"folder with {files}")
    parser.add_argument("--models", nargs="+", default=names, choices=names, help="models to measure")
    parser.add_argument("--epochs", type=int, default=6, help="number of pairs of epochs (default: 6)")
    parser.add_argument("--steps", type=int, default=50, help="batches per epoch (default: 50)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"], help="where both loops run")
    return parser


def measure_models(options: argparse.Namespace, report: Callable[[str, argparse.Namespace], None]) -> None:
    """Prints the machine, then calls `report` for each of the models that the options name."""
    os.environ["WANDB_SILENT"] = "true"
    print(machine())
    if options.device == "gpu":
        print(torch.cuda.get_device_name())
    for model in options.models:
        report(model, options)


def report_speed(
    model: str,
    options: argparse.Namespace,
    make_bare_loop: Callable[[Trainer], Epoch],
    fit: list[str],
    batch_size: int,
    unit: str = "images",
) -> None:
    """Measures `fit` against a bare loop, and prints the ratio and both speeds.

    Args:
        model: Name to print.
        options: Options of `make_parser`.
        make_bare_loop: Returns the bare loop for a trainer that is about to train.
        fit: Options of `train.py fit` that belong to the model.
        batch_size: Number of units in a batch.
        unit: What a batch consists of.
    """
    fit = [*fit, f"--data.root={options.root}", "--run.pictures=false"]
    fit += [f"--trainer.limit_train_batches={options.steps}", "--trainer.limit_val_batches=0"]
    fit += [f"--trainer.accelerator={options.device}", "--trainer.devices=1"]
    pairs = measure(make_bare_loop, options.epochs, fit)
    seen = options.steps * batch_size
    speed = (f"{seen / statistics.median(side):,.0f}" for side in zip(*pairs, strict=True))
    print(f"{model}: {summary(pairs)}; {' against '.join(speed)} {unit}/s", flush=True)
