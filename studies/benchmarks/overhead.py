"""The wall time of an epoch of `train.py fit` with logging against a bare PyTorch loop, and the peak memory of both.

python -m studies.benchmarks.overhead --root data

Both use the same model, data, batches, optimizer and validation, in one process. Each epoch of `fit` is followed by one
of the bare loop, so that a temporarily slow machine slows both; the ratio is the median of the ratios of the pairs. An
epoch of `fit` lasts from its start to the start of the next one and includes hooks, progress, metrics.csv, the offline
W&B run, validation and checkpoints. The bare loop executes only the training steps and the validation. The peak memory
is measured in a separate process for each.
"""

import argparse
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback

import train
from datamodules import MNISTDataModule
from lit_models import Autoencoder
from studies.benchmarks import machine

Pair = tuple[float, float]
Epoch = Callable[[int], float]
"""Executes the epoch of the given number and returns its duration in seconds."""


def bare_loop(root: str, depth: int) -> Epoch:
    """Returns a function that executes one epoch of a hand-written training loop."""
    data = MNISTDataModule(root=root)
    data.setup()
    model = Autoencoder(depth=depth)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    training, validation = data.train_dataloader(), data._loader("val")

    def epoch(number: int) -> float:
        began = time.perf_counter()
        training.set_epoch(number)
        model.train()
        with torch.enable_grad():
            for images, _ in training:
                loss = torch.nn.functional.mse_loss(model(images), images)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        model.eval()
        with torch.no_grad():
            for images, _ in validation:
                torch.nn.functional.mse_loss(model(images), images)
        return time.perf_counter() - began

    return epoch


def wait_for(device: torch.device) -> None:
    """Waits until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def epoch_of(step: Callable[..., None], loader: Any, steps: int) -> Epoch:
    """Returns a function that executes an epoch of the given number of batches of a BatchLoader, one step per batch."""

    def epoch(number: int) -> float:
        began = time.perf_counter()
        loader.set_epoch(number)
        with torch.enable_grad():
            for _, batch in zip(range(steps), loader, strict=False):
                step(*batch)
        wait_for(loader.device)
        return time.perf_counter() - began

    return epoch


class Alternate(Callback):
    """Executes an epoch of the bare loop after each epoch of `fit`, and stores the duration of both in seconds."""

    make_bare_loop: Callable[[Trainer], Epoch]
    pairs: list[Pair]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        type(self).pairs = []
        self.bare_epoch = type(self).make_bare_loop(trainer)
        self.bare_epoch(0)  # warm-up
        self.began: float | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._lap(trainer)
        self.began = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._lap(trainer)

    def _lap(self, trainer: Trainer) -> None:
        if self.began is not None:
            wait_for(trainer.strategy.root_device)
            taken = time.perf_counter() - self.began
            self.pairs.append((taken, self.bare_epoch(trainer.current_epoch)))


def measure(make_bare_loop: Callable[[Trainer], Epoch], epochs: int, options: list[str]) -> list[Pair]:
    """Returns the duration of each epoch of `fit` and of the bare loop, without the first pair (warm-up).

    Args:
        make_bare_loop: Returns the bare loop for a trainer that is about to train.
        epochs: Number of measured pairs of epochs.
        options: Options of `train.py fit`.
    """
    alternate = importlib.import_module("studies.benchmarks.overhead").Alternate  # the class that train.py will use
    alternate.make_bare_loop = staticmethod(make_bare_loop)
    fit(epochs + 1, [*options, "--trainer.callbacks+=studies.benchmarks.overhead.Alternate"])
    return alternate.pairs[1:]


def fit(epochs: int, options: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = [f"--trainer.max_epochs={epochs}", "--run.wandb=offline", f"--run.root={folder}"]
        train.main(["fit", *options, *run])


def summary(pairs: list[Pair]) -> str:
    ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = sorted(ours / bare for ours, bare in pairs)
    return (
        f"fit {ours:.3f} s per epoch, bare loop {bare:.3f} s, ratio {statistics.median(ratios):.3f}"
        f" ({ratios[0]:.3f} to {ratios[-1]:.3f} over {len(ratios)} pairs)"
    )


def autoencoder(root: str, depth: int) -> list[str]:
    return ["--config=configs/autoencoder_mnist.yaml", f"--data.root={root}", f"--model.depth={depth}"]


def peak_memory(kind: str, root: str, depth: int) -> float:
    """Returns the peak resident memory in MiB of a process that executes one epoch."""
    command = [
        sys.executable,
        "-m",
        "studies.benchmarks.overhead",
        "--one",
        kind,
        "--root",
        root,
        "--depths",
        str(depth),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return json.loads(done.stdout.splitlines()[-1])


def report(root: str, depth: int, epochs: int) -> None:
    pairs = measure(lambda trainer: bare_loop(root, depth), epochs, autoencoder(root, depth))
    memory = {kind: peak_memory(kind, root, depth) for kind in ("fit", "bare")}
    print(
        f"depth {depth}: {summary(pairs)}; peak memory {memory['fit']:.0f} MiB against {memory['bare']:.0f} MiB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="folder with mnist.npz")
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 3], help="depths of the model (default: 1 3)")
    parser.add_argument("--epochs", type=int, default=8, help="number of pairs of epochs (default: 8)")
    parser.add_argument("--one", choices=["fit", "bare"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["WANDB_SILENT"] = "true"
    if options.one:
        if options.one == "fit":
            fit(1, autoencoder(options.root, options.depths[0]))
        else:
            seed_everything(0, verbose=False)
            bare_loop(options.root, options.depths[0])(0)
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
        return
    print(machine())
    for depth in options.depths:
        report(options.root, depth, options.epochs)


if __name__ == "__main__":
    main()
