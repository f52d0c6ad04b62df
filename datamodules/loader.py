"""Batches cut by index from tensors that already lie on the device."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]
Transform = Callable[[Tensor, torch.Generator], Tensor]
Render = Callable[[Tensor, Tensor, Tensor, int], Batch]
"""(stored images as float in [0, 1], their labels, their numbers, epoch) -> the images and labels of a batch."""


def seeded_generator(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that follows from `numbers` alone, such as (seed, epoch, batch)."""
    seed = 0
    for number in numbers:
        seed = (seed * 1_000_003 + number + 1) % 2**63
    return torch.Generator(device).manual_seed(seed)


class BatchLoader:
    """Iterates over (images, labels) with no workers, no per-image Python and no copy of the data set.

    The order follows from (seed, epoch) alone. Batch k of all ranks together is the k-th slice of that order, as
    one process with `batch_size * world_size` would see it, and each rank takes its own part of the slice. When
    `drop_last` is false the last, smaller slice is shared out too, so that every image is seen exactly once.

    Args:
        images: uint8, M x C x H x W, on the device where they are to stay.
        labels: int64, M, beside the images.
        index: int64, N, which of the images belong to this split; all by default.
        batch_size: images in one rank's batch.
        shuffle: a new order for each epoch, instead of 0..N-1.
        drop_last: leave the incomplete slice out, unless it is the only one.
        rank, world_size: this process among all that train together.
        device: where batches are wanted; the images' own device by default.
        transform: applied to the float batch on its device, with a generator drawn from (seed, epoch, batch).
        render: makes the batch out of stored images by their numbers and the epoch, which is always 0 where the order
            is fixed; before `transform`. What it makes of an image must not hang on the others beside it.
        indexed: tell the number of each image among those of this split, 0 to N-1, the same in each epoch.

    Yields:
        (images, labels): float32 in [0, 1], B x C x H x W, and int64, B, or as `render` makes them; with `indexed` the
        numbers too, int64, B.

    Raises:
        ValueError: there is less than one image for each rank, or batch_size is below one.
    """

    def __init__(
        self,
        images: Tensor,
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
        transform: Transform | None = None,
        render: Render | None = None,
        indexed: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.images = images
        self.labels = labels
        self.index = torch.arange(len(images), device=images.device) if index is None else index.to(images.device)
        if len(self.index) < world_size:
            raise ValueError(f"{len(self.index)} images cannot be shared out over {world_size} processes")
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.device = device or images.device
        self.transform = transform
        self.render = render
        self.indexed = indexed
        self.epoch = 0
        self._slice = batch_size * world_size
        self._whole, rest = divmod(len(self.index), self._slice)
        # An incomplete slice needs an image for each rank, or the ranks would disagree on the number of batches.
        keep_rest = rest >= world_size if shuffle else rest > 0
        self._rest = rest if keep_rest and not (drop_last and self._whole) else 0
        self._position = 0
        self._resume: tuple[int, int] | None = None
        if indexed:
            self._numbers = self._table(torch.arange(len(self.index)), self.labels)

    @property
    def repeats(self) -> bool:
        """Whether an image is the same in every pass."""
        return self.transform is None and not (self.render is not None and self.shuffle)

    batch_sampler = None  # Lightning asks for it wherever there is a sampler

    def __len__(self) -> int:
        return self._whole + (self._rest > 0)

    @property
    def sampler(self) -> "BatchLoader":
        """Lightning announces each epoch by `loader.sampler.set_epoch(epoch)`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """The epoch and the number of its batches handed out so far."""
        return {"epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = int(state["epoch"])
        self._resume = (self.epoch, int(state["position"]))

    def __iter__(self) -> Iterator[Any]:
        start = self._start()
        order = self._order()
        for index in range(start, len(self)):
            picked = order[self._bounds(index)]
            batch = self._cut(picked, index)
            self._position = index + 1
            yield batch

    def _start(self) -> int:
        """Where this pass begins: after the batches that a checkpoint of this very epoch had seen, else at 0."""
        resume, self._resume, self._position = self._resume, None, 0
        if resume is not None and resume[0] == self.epoch and resume[1] < len(self):
            return resume[1]
        return 0

    def _order(self) -> Tensor:
        """The images of this epoch in their order, for all ranks alike: int64, N, on the images' device."""
        if not self.shuffle:
            return self.index
        order = torch.randperm(len(self.index), generator=seeded_generator(self.seed, self.epoch))
        return self.index[order.to(self.index.device)]

    def _bounds(self, index: int) -> slice:
        """This rank's part of slice `index` of the order."""
        first = index * self._slice
        if index < self._whole:
            first += self.rank * self.batch_size
            return slice(first, first + self.batch_size)
        start, stop = (self._rest * part // self.world_size for part in (self.rank, self.rank + 1))
        return slice(first + start, first + stop)

    @torch.no_grad()
    def encode_once(self, encode: Callable[[Tensor], Tensor]) -> None:
        """Hands out codes in the place of images from now on; `encode` sees each of its images once.

        Raises:
            ValueError: the images are not the same each time.
        """
        if not self.repeats:
            raise ValueError("images that differ from pass to pass have no one code")
        codes, labels = [], []
        for part in self.index.split(self.batch_size):
            images, made = self._stored(part)
            codes.append(encode(images))
            labels.append(made)
        self.images = self._table(torch.cat(codes), self.images)
        self.labels = self._table(torch.cat(labels), self.labels)
        self.render = None

    def _table(self, rows: Tensor, beside: Tensor) -> Tensor:
        """As long as `beside` and on its device, with `rows` at this split's places."""
        table = rows.new_zeros(len(beside), *rows.shape[1:])
        return table.index_copy_(0, self.index.to(rows.device), rows).to(beside.device)

    def _stored(self, picked: Tensor) -> Batch:
        """Images in [0, 1] and labels on the training device, rendered but not transformed."""
        images, labels = (
            x.index_select(0, picked).to(self.device, non_blocking=True) for x in (self.images, self.labels)
        )
        images = images if images.is_floating_point() else images.float().div_(255)
        if self.render is None:
            return images, labels
        return self.render(images, labels, picked.to(self.device, non_blocking=True), self.epoch if self.shuffle else 0)

    def _cut(self, picked: Tensor, index: int) -> tuple[Tensor, ...]:
        images, labels = self._stored(picked)
        if self.transform is not None:
            generator = seeded_generator(self.seed, self.epoch, index, self.rank, device=images.device)
            images = self.transform(images, generator)
        if self.indexed:
            return images, labels, self._numbers.index_select(0, picked).to(self.device, non_blocking=True)
        return images, labels
