"""Speed of the batch loader against torchvision's data sets and DataLoader, and its memory.

python -m studies.benchmarks.loader mnist --root data    # MNIST in memory
python -m studies.benchmarks.loader folder               # a folder of JPEG files
python -m studies.benchmarks.loader disk                 # decoded images that stay on disk

Both loaders produce shuffled float32 batches of 128, in one process; they alternate, and a result is the median over
rounds. The DataLoader is measured with each number of workers, which stay alive between epochs. Its best result is
compared. JPEG files are random pieces, of about 100 x 100 pixels, of the two photographs of scikit-learn.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import MNIST, ImageFolder
from torchvision.transforms import ToTensor

from datamodules import ImageDataModule, ImageFolderDataModule, MNISTDataModule, cache
from datamodules.images_on_disk import ImagesOnDisk
from studies.benchmarks import machine

BATCH = 128
CLASSES = 10
STEP_SECONDS = 0.02
"""Time of a training step that is pretended, to see whether the images of the next one are there in time."""

Loader = Iterable[tuple[Tensor, Tensor]]


def seconds(batches: Loader, images: int) -> float:
    """Returns the duration of one pass over about that many images."""
    began = time.perf_counter()
    count = sum(len(labels) for _, labels in batches)
    taken = time.perf_counter() - began
    assert images - BATCH < count <= images
    return taken


def torchvision_loader(dataset: Dataset[tuple[Tensor, int]], workers: int) -> Loader:
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


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


def write_jpegs(folder: Path, number: int) -> None:
    """Writes `number` training images of ten classes, and one test image of each class."""
    photographs = load_sample_images().images
    rng = np.random.default_rng(0)
    for k in range(number + CLASSES):
        path = folder / ("train" if k < number else "test") / f"class_{k % CLASSES}" / f"{k:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = rng.integers(90, 111, 2)
        photograph = photographs[k % len(photographs)]
        top, left = (int(rng.integers(0, most)) for most in np.subtract(photograph.shape[:2], (height, width)))
        Image.fromarray(photograph[top : top + height, left : left + width]).save(path, quality=90)


def ready(data: ImageDataModule) -> ImageDataModule:
    data.prepare_data()
    data.setup()
    return data


def report(title: str, images: int, ours: list[float], theirs: dict[int, list[float]]) -> None:
    """Prints medians of the seconds of an epoch of that many images, and their ratio."""
    medians = {
        "genlab": statistics.median(ours),
        **{f"torchvision, num_workers={workers}": statistics.median(taken) for workers, taken in theirs.items()},
    }
    print(title)
    for name, median in medians.items():
        print(f"  {name:27} {median:8.3f} s per epoch  {images / median:12,.0f} images/s")
    first, *others = medians.values()
    print(f"  ratio to the best result of torchvision: {min(others) / first:.1f} times", flush=True)


def alternate(
    options: argparse.Namespace,
    rounds: int,
    images: int,
    ours: Callable[[int], Loader],
    theirs: Callable[[int], Loader],
) -> tuple[list[float], dict[int, list[float]]]:
    """Returns the seconds that epochs take; making the loader counts.

    Args:
        options: Those of the command line.
        rounds: Number of epochs of each loader of torchvision; each alternates with one of ours.
        images: Number of images in an epoch.
        ours: Returns our loader for an epoch of that number.
        theirs: Returns torchvision's loader with that number of workers.
    """
    ours_taken: list[float] = []
    theirs_taken: dict[int, list[float]] = {workers: [] for workers in options.workers}
    for epoch in range(rounds):
        for workers in options.workers:
            for make, argument, taken in ((ours, epoch, ours_taken), (theirs, workers, theirs_taken[workers])):
                began = time.perf_counter()
                loader = make(argument)
                taken.append(time.perf_counter() - began + seconds(loader, images))
    return ours_taken, theirs_taken


def later_epochs(
    title: str, data: ImageDataModule, dataset: Dataset[tuple[Tensor, int]], images: int, options: argparse.Namespace
) -> None:
    """Compares epochs after the first, for which both loaders are ready."""
    loader = data.train_dataloader()
    theirs = {workers: torchvision_loader(dataset, workers) for workers in options.workers}
    for warm in (loader, *theirs.values()):
        seconds(warm, images)

    def ours(epoch: int) -> Loader:
        loader.set_epoch(epoch)
        return loader

    report(title, images, *alternate(options, options.rounds, images, ours, theirs.__getitem__))


def mnist(options: argparse.Namespace) -> None:
    data = ready(MNISTDataModule(root=options.root, val_size=0, batch_size=BATCH))
    with tempfile.TemporaryDirectory() as folder:
        write_raw(data, Path(folder))  # type: ignore[arg-type]
        dataset = MNIST(folder, train=True, transform=ToTensor())
        later_epochs("MNIST", data, dataset, 60_000, options)


def image_folder(folder: Path, size: int = 64) -> ImageFolderDataModule:
    return ImageFolderDataModule(
        str(folder / "images"), size=size, val_size=0, batch_size=BATCH, cache=str(folder / "cache")
    )


def torchvision_folder(folder: Path) -> ImageFolder:
    resize = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(64), ToTensor()])
    return ImageFolder(str(folder / "images" / "train"), transform=resize)


def jpeg_folder(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_jpegs(folder / "images", options.images)

        def ours(epoch: int) -> Loader:
            """Lists and reads all files anew."""
            cache.forget()
            shutil.rmtree(folder / "cache", ignore_errors=True)
            return ready(image_folder(folder)).train_dataloader()

        def theirs(workers: int) -> Loader:
            return torchvision_loader(torchvision_folder(folder), workers)

        first = alternate(options, options.first_rounds, options.images, ours, theirs)
        report("folder of JPEG files, first epoch", options.images, *first)
        data, dataset = ready(image_folder(folder)), torchvision_folder(folder)
        later_epochs("folder of JPEG files, later epochs", data, dataset, options.images, options)


def memory() -> dict[str, float]:
    """Returns what the process has in memory, in MiB: all, its peak, and the anonymous part, which is no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if line.endswith("kB"))
    return {name: int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM", "RssAnon")}


def disk(options: argparse.Namespace) -> None:
    """Shows the memory of epochs from disk, and whether steps wait for it."""
    with tempfile.TemporaryDirectory() as name, patch("datamodules.base.available_memory", return_value=0):
        folder = Path(name)
        write_jpegs(folder / "images", options.images)
        began, before = time.perf_counter(), memory()
        data = ready(image_folder(folder, options.size))
        print(f"decoded in {time.perf_counter() - began:.0f} s")
        loader = data.train_dataloader()
        images = loader.images
        assert isinstance(images, ImagesOnDisk)
        for title, step, cold in (("at once", 0.0, False), ("with steps", STEP_SECONDS, True)):
            if cold:
                os.fsync(images._file)
                os.posix_fadvise(images._file, 0, 0, os.POSIX_FADV_DONTNEED)
            Path("/proc/self/clear_refs").write_text("5")  # starts the peak afresh
            most = {"VmRSS": 0.0, "RssAnon": 0.0}
            began, waited = time.perf_counter(), 0.0
            batches = iter(loader)
            while True:
                asked = time.perf_counter()
                if next(batches, None) is None:
                    break
                waited += time.perf_counter() - asked
                time.sleep(step)
                now = memory()
                most = {name: max(now[name], most[name]) for name in most}
            taken = time.perf_counter() - began
            print(
                f"{images.nbytes / 1e9:.1f} GB on disk, {title}, {'not ' if cold else ''}in the page cache:"
                f" {options.images / taken:,.0f} images/s, {1000 * waited / len(loader):.1f} ms per batch;"
                f" peak of memory +{memory()['VmHWM'] - before['VmRSS']:.0f} MiB,"
                f" anonymous +{most['RssAnon'] - before['RssAnon']:.0f} MiB"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("mnist", "folder", "disk"), nargs="?", default="mnist")
    parser.add_argument("--root", default="data", help="folder with mnist.npz")
    parser.add_argument("--images", type=int, default=20_000, help="number of JPEG files (default: 20,000)")
    parser.add_argument("--size", type=int, default=192, help="size of the images on disk (default: 192)")
    parser.add_argument("--rounds", type=int, default=3, help="number of epochs of each loader (default: 3)")
    parser.add_argument("--first-rounds", type=int, default=1, help="number of first epochs (default: 1)")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0, 1, 2], help="values of num_workers (default: 0 1 2)"
    )
    options = parser.parse_args()
    print(machine())
    {"mnist": mnist, "folder": jpeg_folder, "disk": disk}[options.what](options)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
