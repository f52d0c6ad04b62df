"""Base of data modules for image-to-image translation: pairs of source and target images."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from datamodules.base import ImageDataModule, Split
from datamodules.files import DataError
from datamodules.loader import Batch, BatchTransform, seeded_generator

ImageTransform = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(stored images as float in [0, 1], their labels, their indices, epoch) -> images of one domain, N x C x H x W."""
_HALVES_STREAM, _PARTNERS_STREAM = 0xA1B2, 0xC3D4
"""Separate random streams of one seed."""


class Pairs(NamedTuple):
    """Pairs of a source and a target that show the same image.

    Examples:
        >>> pairs = Pairs(torch.zeros(4, 1, 8, 8), torch.ones(4, 1, 8, 8), None)
        >>> pairs.source.shape
        torch.Size([4, 1, 8, 8])
    """

    source: Tensor
    """float32 in [0, 1], N x C x H x W."""
    target: Tensor
    """float32 in [0, 1], N x C x H x W."""
    labels: Tensor | None
    """int64, N; None if the data have no labels."""


class PairsDataModule(ImageDataModule):
    """Base of data modules for image-to-image translation; a batch is (source, target), two versions of stored images.

    If `paired` is true, source and target show the same image. Otherwise the training images are divided once into two
    halves, one for sources and one for targets, so that no image is seen in both versions. An epoch goes once over the
    sources, and pairs each with another target; the targets have a random order of their own. Validation and test
    always have both versions of each image, so that a translation can be compared with the true target.

    A subclass defines `domain_transforms()` and `image_shape`, which is the target's, and `source_shape` if the source
    has another one. If sources and targets are stored separately, it sets the indices of each in `_index` and
    `_targets`.

    Args:
        root: Folder of the data file `<root>/<name>.npz`, which is made or downloaded if it does not exist.
        batch_size: Number of (source, target) pairs in a training batch, on each device.
        paired: Whether source and target of a training pair show the same image. Otherwise one half of the training
            images is used as sources only and the other half as targets only.
        val_size: Number of training images that are held out for validation.
        seed: Seed of the validation split, of the halves of unpaired data and of the order. The run's own seed by
            default.
        on_device: Whether the data are kept on the training device. By default they are if they take less than half of
            its free memory.
        predict_split: Split that `predict` runs over.
        eval_batch_size: Number of pairs in a batch of validation, test and predict. Four times `batch_size` by default.

    Raises:
        ValueError: An option has a value that no data set allows.
        DataError: From `setup`: the data are not available, or there are too few images for two halves.

    Examples:
        >>> from datamodules.digits import DigitsDataModule
        >>> class Negatives(PairsDataModule, DigitsDataModule):
        ...     def domain_transforms(self, split):
        ...         return (lambda x, labels, index, epoch: x), (lambda x, labels, index, epoch: 1 - x)
        >>> source, target = Negatives(val_size=100).examples("test", 4)
        >>> bool((target == 1 - source).all())
        True
    """

    hues: ClassVar[tuple[Sequence[float] | None, Sequence[float] | None]] = (None, None)
    """Hue in degrees of each class in sources and in targets; None if the classes have no hues of their own."""
    aligned: bool = True
    """Whether source and target of a validation or test pair show the same image."""

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
        """Indices of the target images, for splits whose targets are not their sources."""

    @abstractmethod
    def domain_transforms(self, split: Split) -> tuple[ImageTransform, ImageTransform]:
        """Returns the functions that compute sources and targets from stored images."""

    def baseline(self, source: Tensor) -> Tensor | None:
        """Returns a translation without a model, for comparison, or None if there is none."""
        return None

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        if self.paired or self._targets:
            return
        index = self._index["train"]
        if len(index) < 2:
            raise DataError(
                f"{self.name} has {len(index)} training images, too few for two halves;"
                " add images or give --data.paired true"
            )
        order = index[torch.randperm(len(index), generator=seeded_generator(self._seed, _HALVES_STREAM))]
        half = len(order) // 2
        self._index["train"], self._targets["train"] = order[:half].sort().values, order[half:]

    def batch_transform(self, split: Split) -> BatchTransform:
        return self._unpaired(split) if split in self._targets else self._same_image(split)

    def pairs(self, split: Split, n: int, seed: int = 0, part: slice = slice(None)) -> Pairs:
        """Returns `n` random images of a split in both versions, or all if it has fewer.

        They are as in the validation and test loaders. If the data are not `aligned`, these are `n` sources, each with
        some target.

        Args:
            split: Split of the images.
            n: Number of images.
            seed: The choice depends on this number alone.
            part: Part of the `n` pairs to return, such as one process's share.
        """
        self.setup()
        images, labels, index = self._split(split)
        picked = index[torch.randperm(len(index), generator=seeded_generator(seed))[:n][part].to(index.device)]
        chosen, digits = images[picked].float().div_(255), labels[picked]
        make = self._same_image(split) if self.aligned else self.batch_transform(split)
        return Pairs(*make(chosen, digits, picked, 0), digits)

    def _same_image(self, split: Split) -> BatchTransform:
        """Returns the transform that gives both versions of each image."""
        source, target = self.domain_transforms(split)

        def both(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            return source(images, labels, index, epoch), target(images, labels, index, epoch)

        return both

    def _unpaired(self, split: Split) -> BatchTransform:
        """Returns the transform that gives the k-th source the k-th target in a random order of the epoch.

        If there are fewer targets than sources, the targets are repeated, each time in a new order.
        """
        source, target = self.domain_transforms(split)
        stored, digits, sources = self._split(split)
        position = torch.zeros(len(digits), dtype=torch.long, device=sources.device)
        position[sources] = torch.arange(len(sources), device=sources.device)
        targets = self._targets[split].to(sources.device)
        rounds = max(1, math.ceil(len(sources) / max(1, len(targets))))
        seed = self._transform_seed(split)
        order: dict[int, Tensor] = {}

        def unpaired(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            if epoch not in order:
                order.clear()
                generator = seeded_generator(seed, _PARTNERS_STREAM, epoch)
                drawn = torch.cat([torch.randperm(len(targets), generator=generator) for _ in range(rounds)])
                order[epoch] = targets[drawn.to(targets.device)]
            other = order[epoch][position[index.to(position.device)]]
            other_images = stored[other].to(images.device).float().div_(255)
            others = target(other_images, digits[other].to(images.device), other.to(images.device), epoch)
            return source(images, labels, index, epoch), others

        return unpaired
