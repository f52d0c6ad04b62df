"""Data sets as one npz file each, which is validated when read and written atomically."""

import contextlib
import errno
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

from datamodules.errors import DataError

Arrays = dict[str, np.ndarray]
KEYS = ("x_train", "y_train", "x_test", "y_test")
UNREADABLE = (
    *(OSError, EOFError, ValueError, AttributeError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""Exceptions that numpy and zipfile raise on damaged files."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
LOCK_SECONDS = 1800.0
NETWORK_SECONDS = 30.0


def load_or_fetch(root: Path, name: str, fetch: Callable[[Path], Arrays], check: Callable[[Arrays], None]) -> Arrays:
    """Returns the arrays of `<root>/<name>.npz`. If the file does not exist, calls `fetch` and writes it.

    Several processes may call this at the same time: one fetches under a lock, the others wait and read its file.

    Args:
        root: Data folder; it is created if it does not exist.
        name: Stem of the file.
        fetch: Returns the arrays of KEYS; it is given an empty temporary folder inside `root`.
        check: Raises DataError, without the file's name, for arrays that do not belong to this data set.

    Raises:
        DataError: The file is damaged or of another data set, fetching fails, or `root` cannot be written.
    """
    path = root / f"{name}.npz"
    try:
        if path.exists():
            return read_npz(path, check)
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock", timeout=LOCK_SECONDS):
            if path.exists():  # written by another process in the meantime
                return read_npz(path, check)
            _remove_leftovers(root, name)
            with _scratch(root, name) as scratch:
                arrays = _fetched(path, scratch, fetch)
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
            " stop it, or give another folder with --data.root"
        ) from None
    except OSError as error:
        raise DataError(
            f"cannot read or write {path} ({error.strerror or error}); free space or change permissions there,"
            " or give another folder with --data.root"
        ) from error


def read_npz(path: Path, check: Callable[[Arrays], None]) -> Arrays:
    """Reads and validates one file. Raises DataError if it is damaged, of another data set or has pickled objects."""
    remedy = f"delete it to download it again, or put a valid {path.name} there"
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
        raise DataError(
            f"{path} cannot be read (no permission); change its permissions or give another --data.root"
        ) from None
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is damaged or not an npz file ({reason}); {remedy}") from error
    return arrays


def check_images(arrays: Arrays, image_shape: tuple[int, ...], num_classes: int) -> None:
    """Raises DataError unless all images are uint8 of `image_shape` and each has one label in 0..num_classes-1."""
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if images.dtype != np.uint8 or images.shape[1:] != image_shape or len(images) == 0:
            wanted = "x".join(map(str, ("N", *image_shape)))
            found = "x".join(map(str, images.shape))
            raise DataError(f"x_{part} is {images.dtype} {found}, not uint8 {wanted}")
        if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(f"y_{part} is {labels.dtype} {labels.shape}, not one integer for each image")
        if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
            raise DataError(
                f"y_{part} holds labels from {labels.min()} to {labels.max()}, outside 0 to {num_classes - 1}"
            )


def download(name: str, path: Path, fetch: Callable[[], Arrays]) -> Arrays:
    """Runs a torchvision download with a time limit. If it fails, raises DataError that suggests providing `path`."""
    with downloading(name, f"put {path} there (uint8 {', '.join(KEYS)})"):
        return fetch()


@contextlib.contextmanager
def downloading(name: str, remedy: str) -> Iterator[None]:
    """Sets a time limit for downloads. If one fails, raises DataError that suggests the remedy."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_SECONDS)  # torchvision sets none and could wait forever
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise
        if isinstance(error, OSError) and not isinstance(error, URLError) and error.filename is not None:
            raise  # an error of a file, not of the network
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name} could not be downloaded ({reason}); connect to the network and run again, or {remedy}"
        ) from error
    finally:
        socket.setdefaulttimeout(before)


def _fetched(path: Path, scratch: Path, fetch: Callable[[Path], Arrays]) -> Arrays:
    """Calls `fetch`. An error of one of its own files, such as a broken image, becomes a DataError that names it."""
    try:
        return fetch(scratch)
    except OSError as error:
        if error.errno in DISK_FULL or str(error.filename).startswith(str(scratch)):
            raise  # an error of the data folder
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be made ({reason}); repair or replace the file that this names") from error


@contextlib.contextmanager
def _scratch(root: Path, name: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.part-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(root: Path, name: str) -> None:
    """Removes temporary folders of killed processes. The caller holds the lock, so no other process is writing."""
    for leftover in root.glob(f".{name}.part-*"):
        shutil.rmtree(leftover, ignore_errors=True)
