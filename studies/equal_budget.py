"""Trains models for an equal time each, with several seeds, and compares them.

python -m studies.equal_budget --models ddpm flowmatching edm --minutes 10

Each model's pace is measured first, in training images per second on the given number of threads, alone on the machine.
From it follows how many epochs fit into the budget; the last epochs may be shorter than the data. So every run of a
model sees the same number of images, and a run can be repeated on a slower machine. Validation, pictures and the test
are not in the budget. Finished runs are kept, and an interrupted command goes on where it stopped.
"""

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from genlab.report.compare.runs import Run, read_folders
from genlab.report.records import FINISHED
from genlab.runs.errors import UsageError
from genlab.runs.folder import read_summary
from studies.command import make_parser, run_command
from studies.tables import compared

PACES = "equal_budget_paces.json"
SCORES = [f"test/{name}" for name in ("frechet_classifier", "precision", "recall", "modes", "bits_per_dim", "nll")]
BF16 = ("--trainer.precision", "bf16-mixed")
SMALL_UNET = (*BF16, "--model.network.channels", "[32,64]", "--quality.num_images", "0", "--run.pictures", "false")
"""A U-Net of which ten minutes of one core hold four epochs."""


@dataclass(frozen=True)
class Entry:
    """A model of the comparison.

    Args:
        config: Name of its config, without .yaml.
        options: Further options of train.py.
    """

    config: str
    options: tuple[str, ...] = ()


ENTRIES = {
    "ddpm": Entry("ddpm_mnist", SMALL_UNET),
    "flowmatching": Entry("flowmatching_mnist", (*SMALL_UNET, "--model.likelihood", "null")),
    "edm": Entry("edm_mnist", (*SMALL_UNET, "--model.likelihood", "null")),
}


@dataclass(frozen=True)
class Budget:
    """How runs are trained and where they are kept.

    Args:
        root: Folder of all runs.
        data_root: Folder of the data.
        minutes: Training time of each run.
        threads: Number of threads.
    """

    root: Path
    data_root: Path
    minutes: float
    threads: int

    def fit(self, entry: Entry, experiment: str, name: str, *options: str) -> None:
        """Trains a model by train.py in a process of its own.

        Raises:
            UsageError: The training failed.
        """
        command = [sys.executable, "train.py", "fit", "--config", f"configs/{entry.config}.yaml", *entry.options]
        command += ["--run.root", str(self.root), "--run.experiment", experiment, "--run.name", name]
        command += ["--data.root", str(self.data_root), "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads)}
        if subprocess.run([*command, *options], env=environment, check=False).returncode:
            raise UsageError(f"the training of {experiment}/{name} failed; its message is above")


def pace(name: str, budget: Budget) -> float:
    """Training images per second of a model, measured once for a number of threads."""
    path = budget.root / PACES
    measured = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    entry = ENTRIES[name]
    key = " ".join([entry.config, *entry.options, f"threads={budget.threads}"])
    if key not in measured:
        found = budget.root / "equal_budget_pace.json"
        found.unlink(missing_ok=True)
        callback = ["--trainer.callbacks+=studies.pace.Pace", f"--trainer.callbacks.path={found}"]
        quiet = ["--run.pictures", "false", "--quality.num_images", "0", "--trainer.limit_val_batches", "0"]
        quiet += ["--trainer.limit_test_batches", "0"]
        budget.fit(entry, "equal_budget_pace", name, *callback, *quiet, "--run.overwrite", "true")
        if not found.is_file():
            raise UsageError(f"the training of {name} ended before its pace was measured: give its config more epochs")
        measured[key] = json.loads(found.read_text(encoding="utf-8"))["images/s"]
        path.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    return measured[key]


def schedule(images: float, train_size: int) -> tuple[int, float]:
    """Number of epochs, and the part of the data that each of them sees, for a number of training images.

    Examples:
        >>> schedule(150_000, 60_000)
        (3, 0.8333)
    """
    epochs = max(1, math.ceil(images / train_size))
    return epochs, round(min(1.0, images / train_size / epochs), 4)


def train(name: str, seed: int, budget: Budget, train_size: int) -> Run:
    """Trains a model with one seed, unless the run is finished."""
    experiment = f"equal_budget_{name}_{budget.minutes:g}min"
    folder = budget.root / experiment / f"seed={seed}"
    if (read_summary(folder) or {}).get("state") != FINISHED:
        epochs, part = schedule(60 * budget.minutes * pace(name, budget), train_size)
        options = ["--seed_everything", str(seed), "--trainer.max_epochs", str(epochs)]
        last = folder / "checkpoints" / "last.ckpt"
        options += ["--ckpt_path", str(last)] if last.is_file() else ["--run.overwrite", "true"]
        budget.fit(ENTRIES[name], experiment, folder.name, *options, "--trainer.limit_train_batches", str(part))
    return read_folders([folder])[0]


def main() -> None:
    parser = make_parser(__doc__, data=True)
    parser.add_argument("--models", nargs="+", choices=ENTRIES, default=list(ENTRIES), help="models to train")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds (default: 0 1 2)")
    parser.add_argument("--minutes", type=float, default=10, help="training time of a run (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run (default: %(default)s)")
    parser.add_argument(
        "--train-size", type=int, default=55_000, help="training images of an epoch (default: %(default)s)"
    )
    args = parser.parse_args()
    budget = Budget(args.root, args.data_root, args.minutes, args.threads)
    for name in args.models:
        pace(name, budget)  # all of them before the first training, while the machine is quiet
    runs = [train(name, seed, budget, args.train_size) for name in args.models for seed in args.seeds]
    print(compared(runs, SCORES))


if __name__ == "__main__":
    run_command(main)
