"""Invariants of data that are redrawn in each epoch: coloured, rotated, binarised and stacked MNIST."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules import (
    BinarizedMNISTDataModule,
    ColoredMNISTDataModule,
    MNISTDataModule,
    RotatedMNISTDataModule,
    StackedMNISTDataModule,
)
from datamodules.loader import BatchLoader

OF_TEN_CLASSES = [ColoredMNISTDataModule, RotatedMNISTDataModule, BinarizedMNISTDataModule]
KINDS = [*OF_TEN_CLASSES, StackedMNISTDataModule]
Seen = dict[int, tuple[Tensor, Tensor]]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[MNISTDataModule]:
    return request.param


def ready(kind: type[MNISTDataModule], root: Path, **options: object) -> MNISTDataModule:
    data = kind(root=str(root), **{"val_size": 40, "batch_size": 20, "seed": 3, **options})  # type: ignore[arg-type]
    data.setup()
    return data


def seen(loader: BatchLoader, epoch: int = 0) -> Seen:
    """Returns image and label of the loader for each index."""
    loader.set_epoch(epoch)
    order, done = loader._order(), {}
    for k, (images, labels) in enumerate(loader):
        for number, image, label in zip(order[loader._bounds(k)].tolist(), images, labels, strict=True):
            done[number] = (image, label)
    return done


def classes_of(labels: Tensor) -> Tensor:
    return labels.reshape(len(labels), -1)[:, 0]


def same(a: Seen, b: Seen) -> bool:
    common = a.keys() & b.keys()
    assert common
    return all(torch.equal(x, y) for k in common for x, y in zip(a[k], b[k], strict=True))


def test_an_epoch_repeats_and_the_next_one_differs(kind, data_root: Path):
    a, b = (ready(kind, data_root).train_dataloader() for _ in range(2))
    assert same(seen(a, 2), seen(b, 2)) and not same(seen(a, 2), seen(a, 3))


def test_batch_size_does_not_matter(kind, data_root: Path):
    a, b = (ready(kind, data_root, batch_size=n).train_dataloader() for n in (20, 7))
    assert same(seen(a, 2), seen(b, 2))


def test_rank_does_not_matter(kind, data_root: Path):
    data = ready(kind, data_root)
    images, labels, index = data._split("train")
    whole, *ranks = (
        BatchLoader(
            images,
            labels,
            index,
            batch_size=10,
            shuffle=True,
            rank=rank,
            world_size=world_size,
            batch_transform=data.batch_transform("train"),
        )
        for rank, world_size in ((0, 1), (0, 2), (1, 2))
    )
    joined = seen(ranks[0], 1) | seen(ranks[1], 1)
    assert len(joined) == 160 and same(joined, seen(whole, 1))


def test_a_resumed_pass_goes_on_with_the_same_images(kind, data_root: Path):
    whole, stopped, resumed = (ready(kind, data_root).train_dataloader() for _ in range(3))
    for loader in (whole, stopped):
        loader.set_epoch(4)
    expected, batches = list(whole), iter(stopped)
    for _ in range(3):
        next(batches)
    resumed.load_state_dict(stopped.state_dict())
    resumed.set_epoch(4)
    rest = list(resumed)
    assert len(rest) == len(expected) - 3
    for (x, y), (expected_x, expected_y) in zip(rest, expected[3:], strict=True):
        assert torch.equal(x, expected_x) and torch.equal(y, expected_y)


@pytest.mark.parametrize("split", ["val", "test"])
def test_validation_and_test_images_stay(kind, split: str, data_root: Path):
    loader = getattr(ready(kind, data_root), f"{split}_dataloader")()
    assert same(seen(loader, 0), seen(loader, 5))


def test_the_seed_decides_on_training_images_and_not_on_test_images(kind, data_root: Path):
    a, b = (ready(kind, data_root, seed=seed) for seed in (3, 4))
    assert not same(seen(a.train_dataloader()), seen(b.train_dataloader()))
    assert same(seen(a.test_dataloader()), seen(b.test_dataloader()))


def test_training_and_test_images_of_one_number_are_drawn_apart(kind, data_root: Path):
    data = ready(kind, data_root)
    grey, labels, index = torch.full((50, 1, 28, 28), 0.5), torch.zeros(50, dtype=torch.int64), torch.arange(50)
    grey[:, :, :, 14:] = 0.25
    train, test = (data.batch_transform(split)(grey, labels, index, 0)[0] for split in ("train", "test"))
    assert not torch.equal(train, test)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_examples_are_the_images_of_epoch_0(kind, split: str, data_root: Path):
    data = ready(kind, data_root, predict_split=split)
    images, labels = data.examples(split, 1000)
    made = seen(data.predict_dataloader(), 3)
    order = torch.randperm(len(made), generator=torch.Generator().manual_seed(1))  # examples' own, of seed 0
    expected = list(made.values())
    assert len(images) == len(expected)
    for image, label, place in zip(images, labels, order.tolist(), strict=True):
        assert torch.equal(image, expected[place][0]) and torch.equal(label, expected[place][1])


def test_batches_have_the_declared_shape_and_range(kind, data_root: Path):
    data = ready(kind, data_root)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        images, labels = next(iter(loader))
        assert images.dtype == torch.float32 and images.shape[1:] == data.image_shape
        assert images.min() >= 0 and images.max() <= 1 and labels.dtype == torch.int64
        assert classes_of(labels).min() >= 0 and classes_of(labels).max() < data.num_classes


@pytest.mark.parametrize("kind", OF_TEN_CLASSES)
def test_few_shot_counts_digits(kind, data_root: Path):
    data = ready(kind, data_root, labels_per_class=2)
    digits = torch.cat([classes_of(labels) for _, labels in data.train_dataloader()])
    assert len(data._index["train"]) == 20 and digits.bincount(minlength=10).tolist() == [2] * 10


def test_digits_are_those_of_the_file(kind, data_root: Path):
    """And kinds of one file share one copy of it."""
    data, plain = ready(kind, data_root), ready(MNISTDataModule, data_root)
    assert data._split("train")[0].data_ptr() == plain._split("train")[0].data_ptr()
    stored, of_one_digit = plain._split("train")[1], data.num_classes // 10
    for number, (_, label) in seen(data.train_dataloader()).items():
        assert label.flatten()[0] // of_one_digit == stored[number]
