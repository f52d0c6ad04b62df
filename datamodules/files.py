"""Data sets as one npz file each: read with care, written whole or not at all."""

import contextlib
import os
import shutil
import socket
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError

import numpy as np
from filelock import FileLock, Timeout

Arrays = dict[str, np.ndarray]
KEYS = ("x_train", "y_train", "x_test", "y_test")
UNREADABLE = (
    *(OSError, EOFError, ValueError, AttributeError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What numpy and zipfile raise, between them, on damaged files."""
LOCK_SECONDS = 1800.0
NETWORK_SECONDS = 30.0


class DataError(RuntimeError):
    """Data that cannot be used. The message is one line: what is wrong, where, and what to do."""


def load_or_fetch(root: Path, name: str, fetch: Callable[[Path], Arrays], check: Callable[[Arrays], None]) -> Arrays:
    """The arrays of `<root>/<name>.npz`; where there is no such file, `fetch` makes them and the file is written.

    Safe to call from several processes at once: one fetches under a lock, the others wait and read its file.

    Args:
        root: the data folder; made if it is not there.
        name: the file's stem.
        fetch: given an empty scratch folder inside root, returns the arrays of KEYS.
        check: raises DataError without a file name for arrays that are not this data set's.

    Raises:
        DataError: the file is damaged or foreign, nothing can be fetched, or root cannot be written.
    """
    path = root / f"{name}.npz"
    try:
        if path.exists():
            return read_npz(path, check)
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock", timeout=LOCK_SECONDS):
            if path.exists():  # another process wrote it while this one waited
                return read_npz(path, check)
            _sweep_leftovers(root, name)
            with _scratch(root, name) as scratch:
                arrays = fetch(scratch)
                check(arrays)
                part = scratch / path.name
                with open(part, "wb") as file:
                    np.savez(file, **arrays)  # type: ignore[arg-type]
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(part, path)
            return arrays
    except Timeout:
        raise DataError(
            f"another process has held {root / f'.{name}.lock'} for {LOCK_SECONDS / 60:.0f} minutes;"
            " stop it, or choose another folder with --data.root"
        ) from None
    except OSError as error:
        raise DataError(
            f"cannot read or write {path} ({error.strerror or error}); free or unlock that folder,"
            " or choose another one with --data.root"
        ) from error


def read_npz(path: Path, check: Callable[[Arrays], None]) -> Arrays:
    """Reads and checks one file. Raises DataError for one that is damaged, foreign or carries pickled objects."""
    remedy = f"delete it to fetch it again, or put a good {path.name} there"
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in KEYS if key not in file.files]
            if missing:
                raise DataError(f"{path} has no array {', '.join(missing)}; {remedy}")
            arrays = {key: file[key] for key in KEYS}
        check(arrays)
    except DataError as error:
        message = str(error)
        raise DataError(message if message.startswith(str(path)) else f"{path}: {message}; {remedy}") from None
    except PermissionError:
        raise DataError(f"{path} may not be read; change its permissions or choose another --data.root") from None
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is damaged or is no npz file ({reason}); {remedy}") from error
    return arrays


def check_images(arrays: Arrays, image_shape: tuple[int, ...], num_classes: int) -> None:
    """Raises DataError unless images are uint8 of `image_shape` and each has one label in 0..num_classes-1."""
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if images.dtype != np.uint8 or images.shape[1:] != image_shape or len(images) == 0:
            wanted = "x".join(map(str, ("N", *image_shape)))
            found = "x".join(map(str, images.shape))
            raise DataError(f"x_{part} is {images.dtype} {found}, not uint8 {wanted}")
        if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(f"y_{part} is {labels.dtype} {labels.shape}, not one whole number for each image")
        if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
            raise DataError(
                f"y_{part} holds labels from {labels.min()} to {labels.max()}, outside 0 to {num_classes - 1}"
            )


def download(name: str, path: Path, fetch: Callable[[], Arrays]) -> Arrays:
    """Runs a torchvision download with a time limit. When it fails, raises DataError that names `path` as a way out."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_SECONDS)  # torchvision sets none, and would wait for ever
    try:
        return fetch()
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and not isinstance(error, URLError) and error.filename is not None:
            raise  # a file, not the network
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name} could not be downloaded ({reason}); connect to the network and run again, or put"
            f" {path} there (uint8 {', '.join(KEYS)})"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _scratch(root: Path, name: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.part-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep_leftovers(root: Path, name: str) -> None:
    """Removes what a killed process left; the caller holds the lock, so nobody else is writing."""
    for leftover in root.glob(f".{name}.part-*"):
        shutil.rmtree(leftover, ignore_errors=True)
