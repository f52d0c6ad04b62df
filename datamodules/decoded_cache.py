"""Decoded images on disk: uint8 arrays that are written once, whole and under a lock, and then mapped into memory."""

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from datamodules.files import DISK_FULL, Arrays, DataError

LEFT_OUT = -1
"""Label of an image that is to be left out, such as one that cannot be read."""
SECONDS_BEFORE_MESSAGE = 5.0
SECONDS_BETWEEN_RELEASES = 0.1
ROWS_AT_ONCE = 1024
_FORMAT = 1
"""Part of every key. A change of the files' format makes another number."""
NOTES = "notes.json"
"""Name of the file of what the writer returned."""

Notes = Mapping[str, Any]
Allocate = Callable[[str, int, int, int, int], tuple[np.ndarray, np.ndarray]]
"""(split, number, height, width, channels) -> images, uint8 N x H x W x C, and labels, int64 N, both to be filled."""


class Decoded(NamedTuple):
    """What `decoded` returns.

    `arrays` has `x_<split>`, uint8 N x H x W x C, and `y_<split>`, int64 N. Images are stored as N x C x H x W, so that
    `x.transpose(0, 3, 1, 2)` is contiguous and no copy. They are `np.memmap` if they come from a file, and changes of
    them are not written back. `notes` are the plain values that the writer returned. `path` is the folder of the files.
    """

    arrays: Arrays
    notes: Notes
    path: Path | None


def decoded(
    folder: Path | None, name: str, key: Notes, state: str, write: Callable[[Allocate], Notes | None]
) -> Decoded:
    """Returns the decoded images of `key` and `state`, which `write` makes if there are none.

    They are kept as `<folder>/<name>-<hash of key>-<hash of state>/`. Several processes may call this at the same time:
    one writes under a lock, the others wait and map its files. Files are written under a temporary name and renamed at
    the end, so that a killed process leaves nothing that is used. When a new state of the same key has been written,
    the older ones are removed; a process that has mapped them goes on with them.

    Args:
        folder: Folder of the cache, which is created if it does not exist. None: images are kept in memory.
        name: Beginning of the name of the files, which tells a reader what they are.
        key: All that changes the images but the state of the source files, as plain values: the source and all options.
        state: State of the source files, such as by `cache.state_of_files`.
        write: Calls `allocate` once for each split and fills the arrays that it returns; those of another thread may
            be filled too. Images whose label is `LEFT_OUT` are dropped. It returns notes as plain values that JSON
            can hold, such as the names of the classes.

    Raises:
        DataError: The folder cannot be written, or has too little free space.

    Examples:
        >>> def write(allocate):
        ...     images, labels = allocate("train", 4, 8, 8, 3)
        ...     images[:], labels[:] = 255, [0, 1, LEFT_OUT, 1]
        ...     return {"classes": ["black", "white"]}
        >>> made = decoded(Path(tempfile.mkdtemp()), "squares", {"size": 8}, "", write)
        >>> made.arrays["x_train"].shape, made.arrays["y_train"].tolist(), made.notes["classes"]
        ((3, 8, 8, 3), [0, 1, 1], ['black', 'white'])
    """
    if folder is None:
        return _in_memory(write)
    kind = f"{name}-{_hash({'format': _FORMAT, **key})}"
    path = folder / f"{kind}-{_hash({'state': state})}"
    try:
        found = _opened(path)
        if found is not None:
            return found
        folder.mkdir(parents=True, exist_ok=True)
        with _Locked(folder / f".{kind}.lock", path):
            found = _opened(path)  # written by another process in the meantime
            if found is not None:
                return found
            _remove(folder, f".{kind}-*.part-*")
            _write(path, write)
            for old in folder.glob(f"{kind}-*"):
                if old != path:
                    shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"the decoded images cannot be kept in {folder} ({error.strerror or error}); free space or change"
            " permissions there, give another folder with --data.cache, or keep them in memory with --data.cache null"
        ) from error
    made = _opened(path)
    if made is None:
        raise DataError(f"{path} was removed while it was being made; run again")
    return made


def _in_memory(write: Callable[[Allocate], Notes | None]) -> Decoded:
    arrays: Arrays = {}

    def allocate(split: str, number: int, height: int, width: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
        images = np.empty((number, channels, height, width), np.uint8)
        labels = np.zeros(number, np.int64)
        arrays[f"x_{split}"], arrays[f"y_{split}"] = images.transpose(0, 2, 3, 1), labels
        return arrays[f"x_{split}"], labels

    notes = write(allocate) or {}
    for split in [name[2:] for name in arrays if name[0] == "y"]:
        kept = arrays[f"y_{split}"] != LEFT_OUT
        if not kept.all():
            images = arrays[f"x_{split}"].transpose(0, 3, 1, 2)[kept]
            arrays[f"x_{split}"], arrays[f"y_{split}"] = images.transpose(0, 2, 3, 1), arrays[f"y_{split}"][kept]
    return Decoded(arrays, notes, None)


def _write(path: Path, write: Callable[[Allocate], Notes | None]) -> None:
    """Writes the files of one state into a temporary folder, which gets the name `path` at the end."""
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.part-", dir=path.parent))
    try:
        made: dict[str, tuple[np.memmap, np.ndarray]] = {}

        def allocate(split: str, number: int, height: int, width: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
            images = _new_array(part / f"x_{split}.npy", (number, channels, height, width), path.parent)
            made[split] = images, np.zeros(number, np.int64)
            return images.transpose(0, 2, 3, 1), made[split][1]

        with _pages_released(made):
            notes = _notes(path, allocate, write)
        for split, (images, labels) in made.items():
            kept = np.flatnonzero(labels != LEFT_OUT)
            if len(kept) < len(labels):
                _without_the_others(part / f"x_{split}.npy", images, kept).flush()
            else:
                images.flush()
            np.save(part / f"y_{split}.npy", labels[kept])
        (part / NOTES).write_text(json.dumps(dict(notes), indent=1), encoding="utf-8")
        part.chmod(0o777 & ~_umask())
        shutil.rmtree(path, ignore_errors=True)  # damaged files, or none
        os.rename(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _notes(path: Path, allocate: Allocate, write: Callable[[Allocate], Notes | None]) -> Notes:
    """Calls `write`. An error of a file that it reads becomes a DataError that names it."""
    try:
        return write(allocate) or {}
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise DataError(f"{path.name} cannot be made ({error}); repair or replace the file that this names") from error


def _new_array(path: Path, shape: tuple[int, int, int, int], folder: Path) -> np.memmap:
    """Makes a file of images whose space is reserved: writing to a map on a full disk would kill the process."""
    number, *sides = shape
    needed = number * int(np.prod(sides))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{number:,} decoded images of {' x '.join(map(str, sides))} take {_in_words(needed)}, and {folder} has"
            f" {_in_words(free)} of free space; free some, or give another folder with --data.cache"
        )
    array = np.lib.format.open_memmap(path, "w+", np.uint8, shape=shape)
    if needed and hasattr(os, "posix_fallocate"):  # macOS has none
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


@contextlib.contextmanager
def _pages_released(made: Mapping[str, tuple[np.memmap, np.ndarray]]) -> Iterator[None]:
    """Keeps what is written to maps from adding up in the memory of this process."""
    ended = threading.Event()

    def release() -> None:
        while not ended.wait(SECONDS_BETWEEN_RELEASES):
            for images, _ in list(made.values()):
                _release_pages(images)

    thread = threading.Thread(target=release, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _release_pages(images: np.memmap) -> None:
    """Gives the pages of a map back to the system, which has what was written; reading brings them again."""
    if hasattr(mmap, "MADV_DONTNEED"):
        images._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def _without_the_others(path: Path, images: np.memmap, kept: np.ndarray) -> np.memmap:
    """Rewrites a file with the images at the positions `kept` only."""
    smaller = path.with_suffix(".kept.npy")
    fewer = _new_array(smaller, (len(kept), *images.shape[1:]), path.parent)
    for first in range(0, len(kept), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        fewer[part] = images[kept[part]]
        _release_pages(images)
        _release_pages(fewer)
    os.replace(smaller, path)
    return fewer


def _opened(path: Path) -> Decoded | None:
    """Maps the files of one state. None: there are none, or they are damaged."""
    try:
        notes = json.loads((path / NOTES).read_text(encoding="utf-8"))
        arrays: Arrays = {}
        for file in sorted(path.glob("x_*.npy")):
            labels = np.load(file.with_name(f"y{file.name[1:]}"))
            images = np.load(file, mmap_mode="c")
            if len(images) != len(labels):
                return None
            arrays[file.stem], arrays[f"y{file.stem[1:]}"] = images.transpose(0, 2, 3, 1), labels
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, PermissionError):
            raise
        return None
    return Decoded(arrays, notes, path)


class _Locked:
    """Holds a lock. Says once, after a few seconds, that another process has it; that of a dead process is free."""

    def __init__(self, path: Path, waited_for: Path) -> None:
        self.lock, self.waited_for = FileLock(path), waited_for

    def __enter__(self) -> None:
        try:
            self.lock.acquire(timeout=SECONDS_BEFORE_MESSAGE)
        except Timeout:
            print(f"waiting for another process that makes {self.waited_for}", file=sys.stderr, flush=True)
            self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def _remove(folder: Path, pattern: str) -> None:
    for leftover in folder.glob(pattern):
        shutil.rmtree(leftover, ignore_errors=True)


def _hash(values: Notes) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:12]


def _in_words(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _umask() -> int:
    """Returns the umask of this process, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
