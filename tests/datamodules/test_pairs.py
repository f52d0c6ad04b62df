"""Invariants of all data modules of pairs, and of the two colourings of digits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import (
    ColoredPairsMNISTDataModule,
    DataError,
    LowResolutionCIFAR10DataModule,
    LowResolutionMNISTDataModule,
    NoisyMNISTDataModule,
    PairedFolderDataModule,
    PairsDataModule,
    RecoloredMNISTDataModule,
)
from datamodules.base import Split
from datamodules.loader import BatchLoader
from datamodules.recolored_mnist import DERANGEMENT, HUES
from genlab.metrics.color import foreground_hue, hue_distance
from tests.datamodules.images import HEIGHT, WIDTH, write_images

Seen = dict[int, tuple[Tensor, Tensor]]
Make = Callable[..., PairsDataModule]

FOLDER: dict[str, object] = {"size": (HEIGHT, WIDTH), "flip": True}
ROWS: dict[str, tuple[type[PairsDataModule], dict[str, object]]] = {
    "recolored": (RecoloredMNISTDataModule, {}),
    "recolored, paired": (RecoloredMNISTDataModule, {"paired": True}),
    "grey to colour": (ColoredPairsMNISTDataModule, {}),
    "edges to colour": (ColoredPairsMNISTDataModule, {"source": "edges"}),
    "noisy": (NoisyMNISTDataModule, {}),
    "noisy, unpaired": (NoisyMNISTDataModule, {"paired": False}),
    "half as large": (LowResolutionMNISTDataModule, {"factor": 2}),
    "photographs, a quarter as large": (LowResolutionCIFAR10DataModule, {"factor": 4}),
    "folder, paired": (PairedFolderDataModule, FOLDER | {"layout": "paired"}),
    "folder, unpaired": (PairedFolderDataModule, FOLDER),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images of each kind, those of targets brighter in red."""
    root = tmp_path_factory.mktemp("folder")
    for side, numbers in (("A", range(60)), ("B", range(100, 160))):
        write_images(root / side, numbers)
    return root


@pytest.fixture(params=ROWS)
def make(request: pytest.FixtureRequest, data_root: Path, folder: Path) -> Make:
    """Builds the data of one row, with further options."""
    kind, row = ROWS[request.param]
    common: dict[str, object] = {"root": str(data_root), "val_size": 40, "batch_size": 10, "seed": 3}
    if kind is PairedFolderDataModule:
        common |= {"folder": str(folder), "val_size": 10}
        del common["root"]

    def build(**options: object) -> PairsDataModule:
        data = kind(**{**common, **row, **options})
        data.prepare_data()
        data.setup()
        return data

    return build


def seen(loader: BatchLoader, epoch: int = 0) -> Seen:
    """A source's number -> it and its target, as the loader gives them."""
    loader.set_epoch(epoch)
    order, done = loader._order(), {}
    for k, (sources, targets) in enumerate(loader):
        for number, *pair in zip(order[loader._bounds(k)].tolist(), sources, targets, strict=True):
            done[number] = tuple(pair)
    return done


def same(a: Seen, b: Seen) -> bool:
    common = a.keys() & b.keys()
    assert common
    return all(torch.equal(x, y) for k in common for x, y in zip(a[k], b[k], strict=True))


def batches(loader: BatchLoader, epoch: int) -> Tensor:
    """All pixels of a pass, one row a batch."""
    loader.set_epoch(epoch)
    return torch.stack([torch.cat([source.flatten(), target.flatten()]) for source, target in loader])


def test_a_pass_follows_from_seed_and_epoch(make: Make):
    loader = make().train_dataloader()
    expected = batches(loader, 2)
    assert torch.equal(expected, batches(make().train_dataloader(), 2))
    assert not torch.equal(expected, batches(loader, 3))
    assert not torch.equal(expected, batches(make(seed=4).train_dataloader(), 2))
    assert torch.equal(expected, batches(loader, 2))


def test_batches_have_the_declared_shapes_and_range(make: Make):
    data = make()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for images, shape in zip(next(iter(loader)), (data.source_shape, data.image_shape), strict=True):
            assert images.dtype == torch.float32 and images.shape[1:] == shape
            assert images.min() >= 0 and images.max() <= 1


def test_batch_size_does_not_matter(make: Make):
    assert same(seen(make().train_dataloader(), 2), seen(make(batch_size=7).train_dataloader(), 2))


def test_processes_share_an_epoch_out_and_see_what_one_alone_sees(make: Make):
    data = make()
    images, labels, index = data._split("train")
    whole, *ranks = (
        BatchLoader(
            *(images, labels, index),
            batch_size=10,
            shuffle=True,
            rank=rank,
            world_size=world_size,
            batch_transform=data.batch_transform("train"),
        )
        for rank, world_size in ((0, 1), (0, 2), (1, 2))
    )
    one, other = (seen(rank, 1) for rank in ranks)
    assert not one.keys() & other.keys()
    assert (one | other).keys() == set(index.tolist()) and same(one | other, seen(whole, 1))


def test_a_resumed_pass_goes_on_with_the_same_pairs(make: Make):
    whole, stopped, resumed = (make().train_dataloader() for _ in range(3))
    expected = batches(whole, 4)
    stopped.set_epoch(4)
    started = iter(stopped)
    for _ in range(3):
        next(started)
    resumed.load_state_dict(stopped.state_dict())
    assert len(expected) > 3 and torch.equal(batches(resumed, 4), expected[3:])


@pytest.mark.parametrize("split", ["val", "test"])
def test_validation_and_test_pairs_stay(make: Make, split: str):
    loader = getattr(make(), f"{split}_dataloader")()
    assert same(seen(loader, 0), seen(loader, 5))


def test_test_pairs_are_the_same_for_every_seed(make: Make):
    a, b = (make(seed=seed) for seed in (3, 4))
    assert same(seen(a.test_dataloader()), seen(b.test_dataloader()))


@pytest.mark.parametrize("split", ["val", "test"])
def test_pairs_are_those_of_the_loader(make: Make, split: Split):
    data = make(predict_split=split)
    found, expected = data.pairs(split, 1000), list(seen(data.predict_dataloader(), 3).values())
    order = torch.randperm(len(expected), generator=torch.Generator().manual_seed(1)).tolist()  # as `pairs` with seed 0
    assert torch.equal(found.source, torch.stack([expected[place][0] for place in order]))
    assert torch.equal(found.target, torch.stack([expected[place][1] for place in order]))
    assert torch.equal(data.pairs(split, 5).source, found.source[:5])
    assert not torch.equal(data.pairs(split, 5, seed=1).source, found.source[:5])


def test_baselines_have_the_shape_of_targets(make: Make):
    data = make()
    source, target, _ = data.pairs("val", 5)
    plain = data.baseline(source)
    assert plain is None or (plain.shape == target.shape and plain.min() >= 0 and plain.max() <= 1)


# Two colourings. Each image is one grey of its own, its number, which both versions show as their brightest channel.


@pytest.fixture(scope="module")
def greys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("greys")
    number = np.arange(240, dtype=np.uint8)
    images, labels = np.tile(number[:, None, None], (1, 28, 28)), number % 10
    np.savez(root / "mnist.npz", x_train=images, y_train=labels, x_test=images[100:], y_test=labels[100:])
    return root


def recolored(root: Path, **options: object) -> RecoloredMNISTDataModule:
    data = RecoloredMNISTDataModule(str(root), **{"val_size": 40, "batch_size": 10, "seed": 3, **options})  # type: ignore[arg-type]
    data.setup()
    return data


def number_of(images: Tensor) -> Tensor:
    return (255 * images.amax(dim=(1, 2, 3))).round().long()


def partners(data: PairsDataModule, epoch: int) -> dict[int, int]:
    """Source -> target, by number."""
    loader = data.train_dataloader()
    loader.set_epoch(epoch)
    return {int(source): int(target) for pair in loader for source, target in zip(*map(number_of, pair), strict=True)}


def test_every_digit_gets_the_hue_of_another_digit_by_no_common_rotation():
    assert sorted(DERANGEMENT) == list(range(10)) and all(k != other for k, other in enumerate(DERANGEMENT))
    assert len({(other - k) % 10 for k, other in enumerate(DERANGEMENT)}) > 1


@pytest.mark.parametrize("split", ["val", "test"])
def test_each_version_has_its_own_hue_of_the_digit(split: Split, greys: Path):
    data = recolored(greys)
    source, target, labels = data.pairs(split, 1000)
    assert labels is not None and len(labels.unique()) == 10
    bright = number_of(source) >= 60  # darker ones count as black
    for images, hues in ((source, HUES), (target, [HUES[k] for k in DERANGEMENT])):
        found = foreground_hue(images[bright])
        assert hue_distance(found, torch.tensor(hues)[labels[bright]]).max() < 0.01
    assert data.hues == (HUES, tuple(HUES[k] for k in DERANGEMENT))


def test_no_image_is_seen_in_both_versions_and_every_one_is_once_in_an_epoch(greys: Path):
    data = recolored(greys)
    pairs = partners(data, 0)
    val = set(data._index["val"].tolist())
    assert len(pairs) == len(set(pairs.values())) == 100
    assert not pairs.keys() & set(pairs.values())
    assert pairs.keys() | set(pairs.values()) == set(range(240)) - val


def test_the_halves_are_fixed_and_the_pairs_change(greys: Path):
    data = recolored(greys)
    epochs = [partners(data, epoch) for epoch in range(20)]
    assert all(set(pairs) == set(epochs[0]) and set(pairs.values()) == set(epochs[0].values()) for pairs in epochs)
    met = [len({pairs[source] for pairs in epochs}) for source in epochs[0]]
    assert 17 < sum(met) / len(met) < 19.2  # 18.2 of 100 in 20 draws


def test_the_seed_draws_the_halves(greys: Path):
    assert set(partners(recolored(greys), 0)) != set(partners(recolored(greys, seed=4), 0))


def test_of_an_odd_number_each_epoch_leaves_another_target_out(greys: Path):
    data = recolored(greys, val_size=39)
    epochs = [set(partners(data, epoch).values()) for epoch in range(10)]
    assert all(len(targets) == 100 for targets in epochs) and len(set.union(*epochs)) == 101


@pytest.mark.parametrize("split", ["val", "test"])
def test_validation_and_test_show_the_same_image_in_both_versions(split: str, greys: Path):
    data = recolored(greys)
    assert data.aligned
    for source, target in getattr(data, f"{split}_dataloader")():
        assert torch.equal(number_of(source), number_of(target)) and not torch.equal(source, target)


def test_paired_training_shows_every_image_in_both_versions(greys: Path):
    pairs = partners(recolored(greys, paired=True), 0)
    assert len(pairs) == 200 and all(source == target for source, target in pairs.items())


def test_one_image_cannot_be_cut_into_halves(greys: Path):
    with pytest.raises(DataError, match="mnist has 1 training images, too few for two halves"):
        recolored(greys, val_size=239)
