"""Images in a file on disk, of which a batch at a time is read, and the thread that reads ahead."""

import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from datamodules.files import DataError
from datamodules.mapped_files import lie_in_file, mapped_file, offset_in_file

COPIED_AT_ONCE = 2**25
"""Number of bytes of a piece when all images are copied."""
MAX_VECTOR = 1024
"""Largest number of images in one call of the operating system, on Linux and macOS."""
MAX_READ = 2**30
"""Largest number of bytes in one call; Linux reads at most 2 GiB."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class ImagesOnDisk:
    """Images of a mapped file, which are read by index and never all at once.

    They are read from the file and not through the map, so that pages of the map do not add up in the memory of the
    process. As of a tensor, `images[index]` are those at the positions `index`.

    Args:
        array: uint8, M x C x H x W, a view of an `np.memmap`; each image is one piece of the file.

    Raises:
        DataError: The file cannot be opened; from reading: it has become shorter.
        ValueError: The images are not one after another in a file, see `mapped_files.lie_in_file`.

    Examples:
        >>> import tempfile
        >>> array = np.memmap(tempfile.mkdtemp() + "/images", np.uint8, "w+", shape=(5, 1, 2, 2))
        >>> array[:] = np.arange(5).reshape(5, 1, 1, 1)
        >>> ImagesOnDisk(array)[torch.tensor([4, 0, 1])][:, 0, 0, 0].tolist()
        [4, 0, 1]
    """

    dtype = torch.uint8
    device = torch.device("cpu")

    def __init__(self, array: np.ndarray) -> None:
        file = mapped_file(array)
        if file is None or not lie_in_file(array):
            raise ValueError("the images do not lie one after another in a mapped file")
        self.path = Path(str(file.filename))
        self.shape = torch.Size(array.shape)
        self._row_strides = array.strides[1:]  # uint8: bytes are elements
        self._first = offset_in_file(array, file)
        try:
            self._file = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"cannot read {self.path} ({error.strerror or error}); run again to make it anew") from None
        weakref.finalize(self, os.close, self._file)
        stat = os.fstat(self._file)
        self._identity = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, self._first, array.shape, array.strides)
        _advise(self._file, 0, 0, "POSIX_FADV_RANDOM")  # otherwise every read brings some 100 kB more

    def __len__(self) -> int:
        return self.shape[0]

    def __eq__(self, other: object) -> bool:
        """Whether the other has the same images of the same file; nothing is read."""
        return isinstance(other, ImagesOnDisk) and other._identity == self._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def row_bytes(self) -> int:
        """Number of bytes of an image."""
        return self.shape[1:].numel()

    @property
    def nbytes(self) -> int:
        return self.shape.numel()

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.read(index, self.empty(len(index)))

    def empty(self, number: int, pinned: bool = False) -> Tensor:
        """Returns memory for that many images; `pinned` to one place, so that a GPU can copy it during other work."""
        return torch.empty((number, *self.shape[1:]), dtype=self.dtype, pin_memory=pinned)

    def read(self, index: Tensor, out: Tensor) -> Tensor:
        """Reads the images at the positions `index` into `out`, in the order of the file, and returns `out`."""
        rows = index.tolist()
        plain = torch.empty(out.shape, dtype=self.dtype) if self._is_permuted else out
        targets = plain.view(len(rows), self.row_bytes).numpy()
        runs = self._runs(rows)
        for first, places in runs:
            _advise(self._file, self._offset(first), len(places) * self.row_bytes, "POSIX_FADV_WILLNEED")
        for first, places in runs:
            self._read_run(first, [targets[place] for place in places])
        return out.copy_(self._view(plain)) if self._is_permuted else out

    def copy_to(self, device: torch.device) -> Tensor:
        """Returns all images as a tensor on a device."""
        copy = torch.empty(self.shape, dtype=self.dtype, device=device)
        step = max(1, COPIED_AT_ONCE // max(1, self.row_bytes))
        for index in torch.arange(len(self)).split(step):
            part = copy[index[0] : index[-1] + 1]
            if part.device == self.device:
                self.read(index, part)
            else:
                part.copy_(self[index])
        return copy

    @property
    def _is_permuted(self) -> bool:
        """Whether the order of the axes in the file is another than C x H x W."""
        _, height, width = self.shape[1:]
        return self._row_strides != (height * width, width, 1)

    def _view(self, rows: Tensor) -> Tensor:
        """Returns the bytes of images as N x C x H x W, without a copy."""
        return rows.as_strided(rows.shape, (self.row_bytes, *self._row_strides))

    def _offset(self, row: int) -> int:
        return self._first + row * self.row_bytes

    def _runs(self, rows: list[int]) -> list[tuple[int, list[int]]]:
        """Returns runs of images that lie side by side: the first one, and for each its place in `rows`."""
        longest = max(1, min(MAX_VECTOR, MAX_READ // max(1, self.row_bytes)))
        runs: list[tuple[int, list[int]]] = []
        for place in sorted(range(len(rows)), key=rows.__getitem__):
            if runs and rows[place] == runs[-1][0] + len(runs[-1][1]) and len(runs[-1][1]) < longest:
                runs[-1][1].append(place)
            else:
                runs.append((rows[place], [place]))
        return runs

    def _read_run(self, first: int, targets: list[np.ndarray]) -> None:
        wanted = len(targets) * self.row_bytes
        if os.preadv(self._file, targets, self._offset(first)) != wanted:  # type: ignore[arg-type]
            raise DataError(f"{self.path} has become shorter while it was in use; remove it and run again")


Images = Tensor | ImagesOnDisk


def _advise(file: int, offset: int, length: int, advice: str) -> None:
    """Tells the operating system how a file will be read. macOS has no such call."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, offset, length, getattr(os, advice))


def read_ahead(read: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator[Result]:
    """Yields `read(item)` of each item, computed in order by a thread that is at most `ahead` items in advance.

    The thread ends with the iteration, also if that is left early or `read` raises an error, which is raised here.

    Examples:
        >>> list(read_ahead(lambda number: number**2, range(4), ahead=2))
        [0, 1, 4, 9]
    """
    reader = ThreadPoolExecutor(1, thread_name_prefix="read_ahead")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(reader.submit(read, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        reader.shutdown(cancel_futures=True)
