"""Loader that cuts batches by index from tensors that are already on the device, or from images on disk."""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from datamodules.images_on_disk import Images, read_ahead

MAX_AHEAD = 8
"""Largest number of batches that are read ahead from disk."""
BYTES_AHEAD = 2**25
"""Bytes of images that are read ahead from disk, but at least one batch."""

Batch = tuple[Tensor, Tensor]
Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""(images as float in [0, 1], random generator) -> augmented images."""
BatchTransform = Callable[[Tensor, Tensor, Tensor, int], Batch]
"""(stored images as float in [0, 1], their labels, their indices, epoch) -> images and labels of a batch."""


def seeded_generator(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns a random generator whose state depends on `numbers` alone, such as (seed, epoch, batch)."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % 2**63
    return torch.Generator(device).manual_seed(seed)


class BatchLoader:
    """Iterates over batches (images, labels) without worker processes and without a copy of the data set.

    Images on disk are read by a thread, some batches ahead, and each batch equals that of images in memory.

    The order of the images depends on (seed, epoch) alone. It is cut into slices of `batch_size * world_size` images,
    and each rank takes its own part of a slice, so that several processes together see the batches that one process
    with the whole batch size would see. If `drop_last` is false, the last, smaller slice is divided among the ranks
    too, and every image is seen exactly once. If it were too small for one image a rank, or in training, where batch
    norm needs more than one, for two, it joins the slice before it.

    Args:
        images: uint8, M x C x H x W, on the device that keeps the data, or on disk.
        labels: int64, M, on the same device.
        index: int64, N, indices of the images that belong to this split. All images by default.
        batch_size: Number of images in the batch of one rank.
        shuffle: Whether each epoch has a new random order.
        seed: Seed of the order and of the augmentation.
        drop_last: Whether the last, smaller slice is left out, unless it is the only one.
        rank: Number of this process among all training processes.
        world_size: Number of training processes.
        device: Device of the batches. The images' own device by default.
        augmentation: Applied to the float images of a batch on their device, with a random generator that depends on
            (seed, epoch, batch, rank).
        batch_transform: Computes the images and labels of a batch from stored images, before the augmentation. It gets
            epoch 0 if `shuffle` is false. Its result for an image must not depend on the other images in the batch.
        return_index: Whether a batch also has the position of each image within this split, from 0 to N-1, which is
            the same in every epoch.

    Yields:
        images as float32 in [0, 1], B x C x H x W, and labels as int64, B, or the results of `batch_transform`; with
        `return_index` the positions too, int64, B.

    Raises:
        ValueError: There are fewer images than ranks, or `batch_size` is below 1.

    Examples:
        >>> loader = BatchLoader(torch.zeros(5, 1, 8, 8, dtype=torch.uint8), torch.arange(5), batch_size=2)
        >>> [labels.tolist() for images, labels in loader]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        images: Images,
        labels: Tensor,
        index: Tensor | None = None,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | None = None,
        augmentation: Augmentation | None = None,
        batch_transform: BatchTransform | None = None,
        return_index: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.images = images
        self.labels = labels
        self.index = torch.arange(len(images), device=images.device) if index is None else index.to(images.device)
        if len(self.index) < world_size:
            raise ValueError(
                f"there are fewer images ({len(self.index)}) than processes ({world_size}); give each at least one"
            )
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.device = device or images.device
        self.augmentation = augmentation
        self.batch_transform = batch_transform
        self.return_index = return_index
        self.epoch = 0
        self._slice = batch_size * world_size
        whole, rest = divmod(len(self.index), self._slice)
        joins = rest < world_size * (min(batch_size, 2) if shuffle else 1)
        self._slices = max(1, whole + (rest > 0 and not drop_last and not joins))
        seen = len(self.index) - (rest if drop_last and whole else 0)
        self._last = seen - (self._slices - 1) * self._slice
        self.max_batch_size = -(-max(self._last, self._slice) // world_size)
        """Size of the largest batch of any rank."""
        self._position = 0
        self._resume: tuple[int, int] | None = None
        if return_index:
            self._positions = self._table(torch.arange(len(self.index)), self.labels)

    @property
    def is_deterministic(self) -> bool:
        """Whether an image is the same in every epoch."""
        return self.augmentation is None and not (self.batch_transform is not None and self.shuffle)

    batch_sampler = None  # Lightning expects this attribute beside `sampler`

    def __len__(self) -> int:
        return self._slices

    @property
    def sampler(self) -> "BatchLoader":
        """The loader itself: Lightning calls `loader.sampler.set_epoch(epoch)` before each epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """Returns the epoch and the number of its batches that have been yielded."""
        return {"epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = int(state["epoch"])
        self._resume = (self.epoch, int(state["position"]))

    def __iter__(self) -> Iterator[Any]:
        start = self._start()
        order = self._order()
        parts = (order[self._bounds(index)] for index in range(start, len(self)))
        with closing(self._pick(parts)) as stored:
            for index, (picked, images) in enumerate(stored, start):
                batch = self._cut(picked, images, index)
                self._position = index + 1
                yield batch

    def _start(self) -> int:
        """Returns the first batch of this epoch: the one after the batches that a restored state has seen, else 0."""
        resume, self._resume, self._position = self._resume, None, 0
        if resume is not None and resume[0] == self.epoch and resume[1] < len(self):
            return resume[1]
        return 0

    def _order(self) -> Tensor:
        """Returns the indices of the images in the order of this epoch, the same on all ranks: int64, N."""
        if not self.shuffle:
            return self.index
        order = torch.randperm(len(self.index), generator=seeded_generator(self.seed, self.epoch))
        return self.index[order.to(self.index.device)]

    def _bounds(self, index: int) -> slice:
        """Returns this rank's part of slice number `index` of the order."""
        first, size = index * self._slice, self._last if index == self._slices - 1 else self._slice
        start, stop = (size * part // self.world_size for part in (self.rank, self.rank + 1))
        return slice(first + start, first + stop)

    @torch.no_grad()
    def precompute_codes(self, encode: Callable[[Tensor], Tensor]) -> None:
        """Replaces the images by their codes: later batches are (codes, labels), and `encode` sees each image once.

        Codes are numbers of any kind but uint8, such as features or tokens.

        Raises:
            ValueError: The images differ from epoch to epoch.
        """
        if not self.is_deterministic:
            raise ValueError("codes cannot be precomputed for images that differ from epoch to epoch")
        codes, labels = [], []
        for picked, stored in self._pick(self.index.split(self.batch_size)):
            images, made = self._loaded(picked, stored)
            codes.append(encode(images))
            labels.append(made)
        self.images = self._table(torch.cat(codes), self.images)
        self.labels = self._table(torch.cat(labels), self.labels)
        self.batch_transform = None

    def _table(self, rows: Tensor, beside: Images) -> Tensor:
        """Returns a tensor as long as `beside`, on its device, with `rows` at the indices of this split."""
        table = rows.new_zeros(len(beside), *rows.shape[1:])
        return table.index_copy_(0, self.index.to(rows.device), rows).to(beside.device)

    def _pick(self, parts: Iterable[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yields each part of the indices with its stored images; a thread reads those on disk ahead."""
        images = self.images
        if isinstance(images, Tensor):
            for picked in parts:
                yield picked, images.index_select(0, picked)
            return
        pinned, spare = self.device.type == "cuda", list[Tensor]()

        def with_memory(picked: Tensor) -> tuple[Tensor, Tensor]:
            """Takes memory here, because in another thread another GPU could be the current one."""
            return picked, spare.pop() if spare else images.empty(self.max_batch_size, pinned)

        def read(job: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            picked, memory = job
            return picked, memory, images.read(picked, memory[: len(picked)])

        ahead = min(MAX_AHEAD, BYTES_AHEAD // (self.batch_size * images.row_bytes))
        for picked, memory, stored in read_ahead(read, map(with_memory, parts), max(1, ahead)):
            yield picked, stored
            if not pinned:  # a GPU may still be copying; torch keeps account of such memory itself
                spare.append(memory)

    def _loaded(self, picked: Tensor, stored: Tensor) -> Batch:
        """Returns images in [0, 1] and labels on the batches' device, before the augmentation."""
        images, labels = (x.to(self.device, non_blocking=True) for x in (stored, self.labels.index_select(0, picked)))
        images = images.float().div_(255) if images.dtype == torch.uint8 else images
        if self.batch_transform is None:
            return images, labels
        index = picked.to(self.device, non_blocking=True)
        return self.batch_transform(images, labels, index, self.epoch if self.shuffle else 0)

    def _cut(self, picked: Tensor, stored: Tensor, index: int) -> tuple[Tensor, ...]:
        images, labels = self._loaded(picked, stored)
        if self.augmentation is not None:
            generator = seeded_generator(self.seed, self.epoch, index, self.rank, device=images.device)
            images = self.augmentation(images, generator)
        if self.return_index:
            return images, labels, self._positions.index_select(0, picked).to(self.device, non_blocking=True)
        return images, labels
