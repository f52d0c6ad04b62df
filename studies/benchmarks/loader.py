"""Images per second of the batch loader against torchvision's MNIST + ToTensor + DataLoader.

python -m studies.benchmarks.loader --root data

Both produce shuffled float32 batches of 128 from uint8 images, in one process; they alternate, and the result is the
median over rounds. The DataLoader is measured with each number of workers, which stay alive between epochs. Its best
result is compared.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from datamodules import MNISTDataModule
from studies.benchmarks import machine

BATCH = 128


def seconds(batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Returns the duration of one pass over the data."""
    began = time.perf_counter()
    count = sum(len(labels) for _, labels in batches)
    taken = time.perf_counter() - began
    assert count >= 59_000
    return taken


def write_raw(data: MNISTDataModule, folder: Path) -> None:
    """Writes MNIST in the file format that torchvision reads."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    arrays = data.read()
    for part, stem in (("train", "train"), ("test", "t10k")):
        for kind, head, body in (
            ("images-idx3", (2051, len(arrays[f"x_{part}"]), 28, 28), arrays[f"x_{part}"]),
            ("labels-idx1", (2049, len(arrays[f"y_{part}"])), arrays[f"y_{part}"]),
        ):
            words = b"".join(number.to_bytes(4, "big") for number in head)
            (raw / f"{stem}-{kind}-ubyte").write_bytes(words + body.astype("uint8").tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="folder with mnist.npz")
    parser.add_argument("--rounds", type=int, default=3, help="number of epochs of each loader (default: 3)")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0, 1, 2], help="values of num_workers (default: 0 1 2)"
    )
    options = parser.parse_args()

    data = MNISTDataModule(root=options.root, val_size=0, batch_size=BATCH)
    data.setup()
    ours = data.train_dataloader()
    with tempfile.TemporaryDirectory() as folder:
        write_raw(data, Path(folder))
        dataset = MNIST(folder, train=True, transform=ToTensor())
        theirs = {
            workers: DataLoader(
                dataset, batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
            )
            for workers in options.workers
        }
        seconds(ours)
        ours_taken: list[float] = []
        theirs_taken: dict[int, list[float]] = {workers: [] for workers in theirs}
        for epoch in range(options.rounds):
            for workers, loader in theirs.items():
                ours.set_epoch(epoch)
                ours_taken.append(seconds(ours))
                theirs_taken[workers].append(seconds(loader))
    ours_median = statistics.median(ours_taken)
    print(machine())
    print(f"genlab BatchLoader            {ours_median:8.3f} s per epoch  {60_000 / ours_median:12,.0f} images/s")
    medians = {workers: statistics.median(taken) for workers, taken in theirs_taken.items()}
    for workers, median in medians.items():
        print(f"torchvision, num_workers={workers}    {median:8.3f} s per epoch  {60_000 / median:12,.0f} images/s")
    print(f"ratio to the best result of torchvision: {min(medians.values()) / ours_median:.0f} times")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
