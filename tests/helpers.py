"""Helpers of tests: small data, short runs, callbacks that stop a run."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image

import train
from lit_models import GenerativeModule
from tests import HANG_SECONDS, preloaded


class StopAt(Callback):
    """Stops the run after a given batch.

    Args:
        batch: Number of the batch, counted from 1 over all epochs.
        how: kill (SIGKILL to this process), term (SIGTERM to it), or raise (an error).
    """

    def __init__(self, batch: int, how: str = "raise") -> None:
        self.batch = batch
        self.how = how
        self.seen = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        self.seen += 1
        if self.seen != self.batch:
            return
        if self.how == "raise":
            raise RuntimeError("stopped by the test")
        os.kill(os.getpid(), signal.SIGKILL if self.how == "kill" else signal.SIGTERM)


def stop_at(batch: int, how: str) -> list[str]:
    """Returns the arguments of train.py that add StopAt."""
    return [
        "--trainer.callbacks+=tests.helpers.StopAt",
        f"--trainer.callbacks.batch={batch}",
        f"--trainer.callbacks.how={how}",
    ]


def write_npz(
    path: Path, shape: tuple[int, ...], n_train: int = 200, n_test: int = 100, seed: int = 0, classes: int = 10
) -> None:
    """Writes a small data set of random images, whose brightness depends on the label."""
    random = np.random.default_rng(seed)
    arrays = {}
    for part, n in (("train", n_train), ("test", n_test)):
        labels = np.arange(n) % classes
        images = random.integers(0, 100, (n, *shape)) + 150 // classes * labels.reshape(-1, *[1] * len(shape))
        arrays |= {f"x_{part}": images.astype(np.uint8), f"y_{part}": labels.astype(np.uint8)}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def write_images(folder: Path, classes: Sequence[str], n: int = 60, size: tuple[int, int] = (16, 16)) -> None:
    """Writes `n` small random colour images for each class as `<folder>/<class>/<number>.png`."""
    random = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k in range(n):
            pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k:03d}.png")


def fit(root: Path, *args: str) -> train.Result:
    """Runs `train.py fit` with the runs in `root`, by default of a small autoencoder on the digits."""
    short = [] if any(arg.startswith("--config") for arg in args) else small_autoencoder()
    return train.main(["fit", *short, *args, f"--run.root={root}", "--trainer.accelerator=cpu"])


def start_program(*command: str, **environment: str) -> subprocess.Popen[str]:
    """Starts a program such as train.py in a new process with all output on stdout."""
    return subprocess.Popen(
        [preloaded.python(), *command],
        cwd=preloaded.ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_program(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program such as train.py in a new process."""
    return subprocess.run(
        [preloaded.python(), *command],
        cwd=preloaded.ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


def small_autoencoder() -> list[str]:
    return [
        "--model=Autoencoder",
        "--model.latent_dim=3",
        "--model.depth=2",
        "--model.channel_factor=4",
        "--model.hidden_dim=32",
        "--data=DigitsDataModule",
        "--data.batch_size=200",
        "--trainer.max_epochs=2",
        "--run.pictures=false",
    ]


def weights(folder: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / name, weights_only=True)["state_dict"]


def saved(model: GenerativeModule, path: Path) -> Path:
    """Saves a checkpoint of an untrained model."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path, weights_only=True)
    return path


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Returns whether two state dicts are equal bit by bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
