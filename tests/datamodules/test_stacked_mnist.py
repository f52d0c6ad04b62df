from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from datamodules import DataError, MNISTDataModule, StackedMNISTDataModule
from datamodules.base import Split

SPLITS: list[Split] = ["train", "val", "test"]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which each image of a part is one grey of its own, its number, and its digit the last one."""
    root = tmp_path_factory.mktemp("numbered")
    number = np.arange(200, dtype=np.uint8)
    images, labels = np.tile(number[:, None, None], (1, 28, 28)), number % 10
    np.savez(root / "mnist.npz", x_train=images, y_train=labels, x_test=images[:100], y_test=labels[:100])
    return root


def ready(root: Path, **options: object) -> StackedMNISTDataModule:
    data = StackedMNISTDataModule(root=str(root), **{"val_size": 40, "seed": 3, **options})  # type: ignore[arg-type]
    data.setup()
    return data


def numbers(images: torch.Tensor) -> torch.Tensor:
    """Which of the numbered images each channel is: N x 3."""
    flat = (255 * images).round().long().flatten(2)
    assert (flat == flat[:, :, :1]).all()
    return flat[:, :, 0]


@pytest.mark.parametrize("split", SPLITS)
def test_every_channel_is_an_image_of_the_split_and_the_first_the_stored_one(split: Split, numbered: Path):
    data = ready(numbered)
    index = data._split(split)[2]
    images, labels = MNISTDataModule(root=str(numbered), val_size=40, seed=3).examples(split, 1000)
    transform, own = data.batch_transform(split), torch.randperm(len(index), generator=torch.Generator().manual_seed(1))
    seen = []
    for epoch in range(30):
        made, _ = transform(images, labels, index[own], epoch)
        assert made.shape == (len(index), 3, 28, 28) and torch.equal(made[:, :1], images)
        seen.append(numbers(made)[:, 1:])
    drawn = torch.cat(seen).unique()
    assert torch.isin(drawn, index).all() and len(drawn) == len(index)  # each is missed with a chance below e^-60


@pytest.mark.parametrize("split", SPLITS)
def test_the_label_is_that_of_the_three_channels(split: Split, numbered: Path):
    data = ready(numbered)
    images, labels = data.examples(split, 1000)
    digits = numbers(images) % 10
    assert labels.dtype == torch.int64
    assert [data.classes[label] for label in labels] == ["".join(map(str, row)) for row in digits.tolist()]


def test_there_is_a_class_for_each_of_1000_modes():
    classes = StackedMNISTDataModule.classes
    assert len(classes) == 1000 and classes[0] == "000" and classes[123] == "123" and classes[-1] == "999"
    assert StackedMNISTDataModule.label_columns == ("class",) and StackedMNISTDataModule.classified_as == "mnist"


def test_draws_are_uniform_and_independent(numbered: Path):
    """Each p-value is above 1e-6 but once in a million seeds, of four tests; the seed is fixed."""
    data = ready(numbered, val_size=0)
    images, labels, index = data._split("train")
    transform, n = data.batch_transform("train"), len(index)
    drawn = torch.cat([numbers(transform(images / 255, labels, index, epoch)[0]) for epoch in range(500)])
    for channel in (1, 2):
        assert stats.chisquare(drawn[:, channel].bincount(minlength=n).numpy()).pvalue > 1e-6
    for a, b in ((1, 2), (0, 1)):
        table = (10 * (drawn[:, a] % 10) + drawn[:, b] % 10).bincount(minlength=100).view(10, 10)
        assert stats.chi2_contingency(table.numpy()).pvalue > 1e-6


def test_labels_are_uniform_over_the_modes(numbered: Path):
    """The p-value is above 1e-6 but once in a million seeds; the seed is fixed."""
    data = ready(numbered, val_size=0)
    images, labels, index = data._split("train")
    transform = data.batch_transform("train")
    made = torch.cat([transform(images / 255, labels, index, epoch)[1] for epoch in range(250)])
    assert stats.chisquare(made.bincount(minlength=1000).numpy()).pvalue > 1e-6


def test_few_shot_is_refused(numbered: Path):
    with pytest.raises(DataError, match=r"labels_per_class is 2, but the classes of StackedMNISTDataModule are random"):
        ready(numbered, labels_per_class=2)
