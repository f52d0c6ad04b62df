"""Images of two kinds, to learn the way from one to the other."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from datamodules.base import ImageDataModule, Split
from datamodules.files import DataError
from datamodules.loader import Batch, Render, seeded_generator

Paint = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(stored images as float in [0, 1], their labels, their numbers, epoch) -> images of one kind, N x C x H x W."""
_HALVES, _PARTNERS = 0xA1B2, 0xC3D4
"""Told apart from the other draws of the same seed."""


class Pairs(NamedTuple):
    """Images that show the same in two ways."""

    source: Tensor
    """float32 in [0, 1], N x C x H x W."""
    target: Tensor
    labels: Tensor | None
    """int64, N; None where there are none."""


class PairsDataModule(ImageDataModule):
    """Each stored image in two versions, a source and a target; a batch is (source, target).

    With `paired` both are of the same image. Without, training images are cut once into two halves of which one gives
    sources alone and the other targets alone, so that no image is ever seen in both versions; an epoch goes once over
    the sources, each with another target, the targets in an order of their own. Validation and test images are always
    seen in both versions, so that what a model makes of one can be compared with the other.

    A subclass gives `versions`, `image_shape`, which is the target's, and `source_shape` where the source's is another.
    One whose sources and targets are stored apart names the images of each in `_index` and `_targets`.

    Args:
        root: folder of the data files; `<root>/<name>.npz` is used when it is there.
        batch_size: pairs in a training batch, on each device.
        paired: the target shows the same image as the source.
        val_size: training images set aside for validation.
        seed: draws the validation split, the halves and the order; the run's own seed by default.
        on_device: keep the data on the training device; by default when they take less than half its free memory.
        predict_split: what `predict` runs over.
        eval_batch_size: images in a batch of validation, test and predict; four times batch_size by default.

    Raises:
        ValueError: an option that no data set could meet.
        DataError: from `setup`, for data that cannot be had, or that have too few images to be cut into halves.
    """

    hues: ClassVar[tuple[Sequence[float] | None, Sequence[float] | None]] = (None, None)
    """The hue in degrees in which source and target show each class; None: in none of its own."""
    aligned: bool = True
    """Whether a source and a target of validation and test show the same."""

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 128,
        paired: bool = True,
        val_size: int = 5000,
        seed: int | None = None,
        on_device: bool | None = None,
        predict_split: Split = "test",
        eval_batch_size: int | None = None,
    ) -> None:
        super().__init__(root, batch_size, val_size, seed, None, on_device, 0, predict_split, eval_batch_size)
        self.paired = paired
        self._targets: dict[Split, Tensor] = {}
        """In splits where sources give no targets: the numbers of the images that do."""

    @abstractmethod
    def versions(self, split: Split) -> tuple[Paint, Paint]:
        """What makes sources and what makes targets of stored images."""

    def untranslated(self, source: Tensor) -> Tensor | None:
        """Images like targets that take no model, to compare a model's with; None: sources have no such form."""
        return None

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        if self.paired or self._targets:
            return
        index = self._index["train"]
        if len(index) < 2:
            raise DataError(f"{self.name} has {len(index)} training images: too few for two halves")
        order = index[torch.randperm(len(index), generator=seeded_generator(self._seed, _HALVES))]
        half = len(order) // 2
        self._index["train"], self._targets["train"] = order[:half].sort().values, order[half:]

    def render(self, split: Split) -> Render:
        return self._unpaired(split) if split in self._targets else self._both(split)

    def pairs(self, split: Split, n: int, seed: int = 0, part: slice = slice(None)) -> Pairs:
        """`n` random images in both versions, or all when the split has fewer; the same ones for the same seed.

        As the loaders of validation and test give them. Where data are not `aligned`, `n` sources, each with a target.

        Args:
            part: of the n, such as one process's share.
        """
        self.setup()
        images, labels, index = self._split(split)
        picked = index[torch.randperm(len(index), generator=seeded_generator(seed))[:n][part].to(index.device)]
        chosen, digits = images[picked].float().div_(255), labels[picked]
        make = self._both(split) if self.aligned else self.render(split)
        return Pairs(*make(chosen, digits, picked, 0), digits)

    def _both(self, split: Split) -> Render:
        """Each image in both versions."""
        source, target = self.versions(split)

        def both(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            return source(images, labels, index, epoch), target(images, labels, index, epoch)

        return both

    def _unpaired(self, split: Split) -> Render:
        """Gives each source another target: the k-th of an order of the epoch's own, k the source's place by number.

        Where there are fewer targets than sources, each of them comes again in a new order, and then again.
        """
        source, target = self.versions(split)
        stored, digits, sources = self._split(split)
        place = torch.zeros(len(digits), dtype=torch.long, device=sources.device)
        place[sources] = torch.arange(len(sources), device=sources.device)
        targets = self._targets[split].to(sources.device)
        rounds = max(1, math.ceil(len(sources) / max(1, len(targets))))
        seed = self._render_seed(split)
        order: dict[int, Tensor] = {}

        def unpaired(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            if epoch not in order:
                order.clear()
                generator = seeded_generator(seed, _PARTNERS, epoch)
                drawn = torch.cat([torch.randperm(len(targets), generator=generator) for _ in range(rounds)])
                order[epoch] = targets[drawn.to(targets.device)]
            other = order[epoch][place[index.to(place.device)]]
            theirs = stored[other].to(images.device).float().div_(255)
            others = target(theirs, digits[other].to(images.device), other.to(images.device), epoch)
            return source(images, labels, index, epoch), others

        return unpaired
