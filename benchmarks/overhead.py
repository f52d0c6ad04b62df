"""Wall time of an epoch of `train.py fit`, logging on, against a bare PyTorch loop; and the peak memory of both.

python -m benchmarks.overhead --root data

The same model, data, batches, optimizer and validation, in one process, alternating; medians over rounds. Ours is the
time between the starts of two epochs, so it holds everything that an epoch costs: hooks, progress, metrics.csv, the
offline W&B run, validation, checkpoints. The bare loop does the training steps and the validation, and nothing else.
Peak memory is that of a fresh process for each.
"""

import argparse
import importlib
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback

import train
from benchmarks import machine
from datamodules import MNISTDataModule
from lit_models import Autoencoder


class EpochClock(Callback):
    """Appends the time at which each epoch starts, and at which training ends, to a class-wide list."""

    times: list[float] = []  # noqa: RUF012  (train.main makes the instance, so the list is shared)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.times.append(time.perf_counter())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.times.append(time.perf_counter())


def lightning_epochs(root: str, depth: int, epochs: int) -> list[float]:
    """Seconds of each epoch of `fit`."""
    times = importlib.import_module("benchmarks.overhead").EpochClock.times  # not that of __main__
    times.clear()
    with tempfile.TemporaryDirectory() as folder:
        train.main(
            [
                "fit",
                "--config=configs/autoencoder_mnist.yaml",
                f"--data.root={root}",
                f"--model.depth={depth}",
                f"--trainer.max_epochs={epochs}",
                "--trainer.callbacks+=benchmarks.overhead.EpochClock",
                "--run.wandb=offline",
                f"--run.root={folder}",
            ]
        )
    return [after - before for before, after in itertools.pairwise(times)]


def bare_epochs(root: str, depth: int, epochs: int) -> list[float]:
    """Seconds of each epoch of the loop that one would write by hand."""
    seed_everything(0, verbose=False)
    data = MNISTDataModule(root=root)
    data.setup()
    model = Autoencoder(depth=depth)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    training, validation = data.train_dataloader(), data._loader("val")
    taken = []
    for epoch in range(epochs):
        began = time.perf_counter()
        training.set_epoch(epoch)
        model.train()
        for images, _ in training:
            loss = torch.nn.functional.mse_loss(model(images), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for images, _ in validation:
                torch.nn.functional.mse_loss(model(images), images)
        taken.append(time.perf_counter() - began)
    return taken


KINDS = {"fit": lightning_epochs, "bare": bare_epochs}


def peak_memory(kind: str, root: str, depth: int) -> float:
    """Largest resident size, in MiB, of a process that runs one epoch and nothing else."""
    command = [sys.executable, "-m", "benchmarks.overhead", "--one", kind, "--root", root, "--depths", str(depth)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return json.loads(done.stdout.splitlines()[-1])


def measure(root: str, depth: int, rounds: int, epochs: int) -> dict[str, Any]:
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, epochs_of in KINDS.items():
            taken[kind] += epochs_of(root, depth, epochs)[1:]  # the first warms up
    return {kind: statistics.median(seconds) for kind, seconds in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="folder with mnist.npz")
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 3], help="depths of the autoencoder")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run, alternating")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of a run; the first is not counted")
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["WANDB_SILENT"] = "true"
    if options.one:
        KINDS[options.one](options.root, options.depths[0], 1)
        print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
        return
    print(machine())
    for depth in options.depths:
        found = measure(options.root, depth, options.rounds, options.epochs)
        memory = {kind: peak_memory(kind, options.root, depth) for kind in KINDS}
        print(
            f"depth {depth}: fit {found['fit']:.3f} s an epoch, bare loop {found['bare']:.3f} s,"
            f" ratio {found['fit'] / found['bare']:.3f}; peak memory {memory['fit']:.0f} MiB against"
            f" {memory['bare']:.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
