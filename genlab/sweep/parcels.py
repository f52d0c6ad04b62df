"""Parcels: folders and files as tar archives in pieces, which go from one machine to another."""

import os
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from genlab.runs.folder import claim

PIECE_BYTES = 32 * 2**20
Piece = TypeVar("Piece")


def pack(folder: Path, path: Path, put: Callable[[bytes], Piece], follow: bool = False) -> list[Piece]:
    """Packs a file or folder.

    Args:
        folder: The path in the parcel is relative to this folder.
        path: The file or folder, below `folder`.
        put: Called with each piece.
        follow: Whether each symbolic link becomes what it points to. Otherwise, it stays a link if it leads into
            the parcel, becomes a file if it leads to one elsewhere, and is left out if it leads to a folder or nowhere.

    Returns:
        What `put` returned for each piece, in order.

    Raises:
        OSError: It cannot be read.
    """
    sink = _Sink(put)
    with tarfile.open(fileobj=sink, mode="w|") as archive:  # type: ignore[call-overload]
        _add(archive, path, folder, (folder / path).resolve(), follow)
    sink.flush()
    return sink.pieces


def _add(archive: tarfile.TarFile, path: Path, folder: Path, all_of_it: Path, follow: bool) -> None:
    file = folder / path
    leaves = file.is_symlink() and (os.path.isabs(os.readlink(file)) or not file.resolve().is_relative_to(all_of_it))
    if not file.exists() or (leaves and not follow and not file.is_file()):
        return
    archive.dereference = follow or leaves
    archive.add(file, arcname=str(path), recursive=False)
    if file.is_dir() and (follow or not file.is_symlink()):
        for name in sorted(os.listdir(file)):
            _add(archive, path / name, folder, all_of_it, follow)


def unpack(pieces: Iterable[bytes], folder: Path) -> None:
    """Writes the contents of a parcel into a folder.

    Raises:
        OSError: They cannot be written.
        tarfile.TarError: A path or link of the parcel would lie outside of the folder, or the parcel is not whole.
    """
    with tarfile.open(fileobj=_Source(iter(pieces)), mode="r|") as archive:  # type: ignore[call-overload]
        archive.extractall(folder, filter="data")


def unpack_whole(pieces: Iterable[bytes], folder: Path, path: Path, replace: bool) -> Path:
    """Puts the folder `path` of a parcel below a folder: whole, or not at all.

    Args:
        pieces: The pieces of the parcel.
        folder: The path in the parcel is relative to this folder.
        path: The folder in the parcel.
        replace: Whether to replace what is there. Otherwise, the new folder gets the next free number, if necessary.

    Returns:
        The new folder.
    """
    target = folder / path
    new = target.with_name(f".{path.name}.arriving-{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    try:
        unpack(pieces, new)
        if replace and target.exists():
            target.rename(new / ".replaced")
        target = claim(target)
        (new / path).rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return target


class _Sink:
    """A file that passes on what is written to it, in pieces."""

    def __init__(self, put: Callable[[bytes], Piece]) -> None:
        self._put, self._rest = put, bytearray()
        self.pieces: list = []

    def write(self, data: bytes) -> int:
        self._rest += data
        if len(self._rest) >= PIECE_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._rest:
            self.pieces.append(self._put(bytes(self._rest)))
            self._rest = bytearray()


class _Source:
    """A file that is read from pieces, one after the other."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._rest = iter(pieces), memoryview(b"")

    def read(self, size: int) -> bytes:
        """Returns at most `size` bytes, none only at the end."""
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        part, self._rest = self._rest[:size], self._rest[size:]
        return bytes(part)
