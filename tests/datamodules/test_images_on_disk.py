import itertools
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import BatchLoader, DataError, ImageDataModule, base, cache
from datamodules.images_on_disk import ImagesOnDisk, read_ahead
from datamodules.mapped_files import lie_in_file, place_in_file

N, SHAPE = 40, (3, 4, 5)
IMAGES = torch.randint(0, 256, (N, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
AXES = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 2, 3, 1)}


def on_disk(folder: Path, axes: str = "NCHW") -> np.ndarray:
    """Writes IMAGES with their axes in this order and returns a map of the file, M x C x H x W."""
    path = folder / f"{axes}.npy"
    np.save(path, IMAGES.permute(AXES[axes]).numpy())
    return np.load(path, mmap_mode="c").transpose(np.argsort(AXES[axes]))


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("read_ahead")]


def batches(images: Any, **options: Any) -> list[tuple[Tensor, ...]]:
    loader = BatchLoader(images, torch.arange(N), **{"batch_size": 4, "seed": 3, **options})
    loader.set_epoch(2)
    return list(loader)


def same(some: list[tuple[Tensor, ...]], others: list[tuple[Tensor, ...]]) -> bool:
    pairs = itertools.chain.from_iterable(zip(a, b, strict=True) for a, b in zip(some, others, strict=True))
    return all(torch.equal(a, b) and a.stride() == b.stride() for a, b in pairs)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shuffle": True, "batch_size": 3},  # the last batch has four images
        {"shuffle": True, "index": torch.tensor([3, 3, 4, 39, 0, 5, 17, 16]), "return_index": True},
        {"shuffle": True, "rank": 1, "world_size": 3, "augmentation": lambda x, g: x + torch.rand(1, generator=g)},
        {"batch_size": 100, "batch_transform": lambda images, labels, index, epoch: (images + epoch, index)},
    ],
)
def test_batches_from_disk_are_those_from_memory_bit_for_bit(options: dict[str, Any], axes: str, tmp_path: Path):
    assert same(batches(ImagesOnDisk(on_disk(tmp_path, axes)), **options), batches(IMAGES, **options))


def test_a_resumed_loader_reads_from_disk_what_was_not_yielded(tmp_path: Path):
    """Batches that were read ahead are not counted."""
    expected = batches(IMAGES, shuffle=True)
    stopped, resumed = (
        BatchLoader(ImagesOnDisk(on_disk(tmp_path)), torch.arange(N), batch_size=4, shuffle=True, seed=3)
        for _ in range(2)
    )
    stopped.set_epoch(2)
    head = list(itertools.islice(stopped, 3))
    resumed.load_state_dict(stopped.state_dict())
    assert stopped.state_dict()["position"] == 3 and same(head + list(resumed), expected)


def test_codes_are_precomputed_from_disk(tmp_path: Path):
    loader = BatchLoader(ImagesOnDisk(on_disk(tmp_path)), torch.arange(N), torch.arange(7, 20), batch_size=4)
    loader.precompute_codes(lambda images: images.flatten(1)[:, :2])
    codes = torch.cat([codes for codes, _ in loader])
    assert torch.equal(codes, IMAGES[7:20].flatten(1)[:, :2].float() / 255)


def test_the_thread_lives_as_long_as_the_iteration_and_only_for_images_on_disk(tmp_path: Path):
    images = ImagesOnDisk(on_disk(tmp_path))
    labels = torch.arange(N)
    next(memory := iter(BatchLoader(IMAGES, labels, batch_size=2)))
    assert not readers() and memory
    for _ in (loader := BatchLoader(images, labels, batch_size=2)):
        assert len(readers()) == 1
        break
    assert not readers()
    with pytest.raises(ZeroDivisionError):
        for batch in loader:
            assert len(batch[1]) / 0
    assert list(loader) and not readers()


def test_reading_is_ahead_by_a_few_items_and_its_errors_are_raised_in_order():
    done: list[int] = []

    def read(item: int) -> int:
        if item == 5:
            raise DataError("item 5")
        done.append(item)
        return item

    items = read_ahead(read, range(10), ahead=3)
    assert next(items) == 0 and next(items) == 1
    assert [next(items), next(items), next(items)] == [2, 3, 4] and max(done) <= 7
    with pytest.raises(DataError, match="item 5"):
        next(items)
    assert not readers()


def test_a_file_that_became_shorter_is_an_error_of_one_line(tmp_path: Path):
    images = ImagesOnDisk(on_disk(tmp_path))
    os.truncate(images.path, 500)
    with pytest.raises(DataError, match="NCHW.npy has become shorter"):
        batches(images)


def test_views_that_are_no_whole_images_of_a_file_are_told_apart(tmp_path: Path):
    array = on_disk(tmp_path)
    assert lie_in_file(array) and lie_in_file(array[5:9]) and lie_in_file(np.asarray(array))
    for other in (array[:, :, 1:], array[::2], array[[1, 2]], np.array(array), array.astype(np.int8), array[0]):
        assert not lie_in_file(other)
    with pytest.raises(ValueError, match="one after another"):
        ImagesOnDisk(array[:, :1])
    part = ImagesOnDisk(array[5:9])
    assert torch.equal(part[torch.tensor([3, 0])], IMAGES[[8, 5]]) and part.nbytes == 4 * 60
    assert torch.equal(part.copy_to(torch.device("cpu")), IMAGES[5:9])
    assert part == ImagesOnDisk(array[5:9]) and part != ImagesOnDisk(array[4:8])
    channels_last = np.load(part.path, mmap_mode="r+").transpose(0, 2, 3, 1)
    place = place_in_file(np.asarray(channels_last)[5:9])
    assert place is not None and place.path == str(part.path)
    assert np.array_equal(place.opened(), IMAGES[5:9].permute(0, 2, 3, 1)) and place.opened().flags.writeable
    protected = np.load(part.path, mmap_mode="c").transpose(0, 2, 3, 1)
    for other in (channels_last[:, 1:], channels_last[::2], protected, np.array(channels_last)):
        assert place_in_file(other) is None


class Mapped(ImageDataModule):
    """A data module whose images stay on disk."""

    name, image_shape, classes = "mapped", SHAPE, ("a", "b")

    def __init__(self, root: str = "data", tag: int = 0, **options: Any) -> None:
        super().__init__(root, **{"batch_size": 4, "val_size": 10, **options})

    def read(self) -> dict[str, np.ndarray]:
        images, labels = np.load(self.root / "NCHW.npy", mmap_mode="c").transpose(0, 2, 3, 1), np.arange(N) % 2
        return {"x_train": images, "y_train": labels, "x_test": images[:8], "y_test": labels[:8]}


class InMemory(Mapped):
    def read(self) -> dict[str, np.ndarray]:
        return {name: np.array(array) for name, array in super().read().items()}


def pretend_trainer(device: str) -> Any:
    """A trainer that has one device."""
    strategy = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(strategy=strategy, global_rank=0, world_size=1, num_devices=1, lightning_module=None)


def epoch_of(data: ImageDataModule, device: str = "cpu") -> list[tuple[Tensor, ...]]:
    data.prepare_data()
    data.setup()
    data.trainer = pretend_trainer(device)
    return [*data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()]  # type: ignore[misc]


def test_a_data_module_gives_the_same_batches_on_the_device_in_memory_and_from_disk(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(cache, "_KEPT", {})
    on_disk(tmp_path)
    expected = InMemory(str(tmp_path), seed=1)
    whole, first = epoch_of(expected), Mapped(str(tmp_path), seed=1)
    with monkeypatch.context() as full:
        full.setattr(base, "available_memory", lambda: 2 * IMAGES.nbytes)
        full.setattr(ImagesOnDisk, "copy_to", None)  # nothing reads all images
        assert same(epoch_of(first), whole) and isinstance(first._split("train")[0], ImagesOnDisk)
        assert first.fingerprint == expected.fingerprint
        assert torch.equal(first.examples("train", 9)[0], expected.examples("train", 9)[0])
    for device, options in (("cpu", {}), ("cpu:0", {}), ("cpu:0", {"on_device": False})):  # cpu:0 stands for a GPU
        data = Mapped(str(tmp_path), seed=1, **options)
        assert same(epoch_of(data, device), whole) and isinstance(data._split("train")[0], Tensor)
    assert {str(place) for _, place in cache._KEPT} == {"cpu", "memory", "cpu:0"}


def test_data_modules_that_map_the_same_file_share_one_copy_in_memory(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(cache, "_KEPT", {})
    on_disk(tmp_path)
    one, other = Mapped(str(tmp_path), tag=1), Mapped(str(tmp_path), tag=2)
    for data in (one, other, one, other):
        data.setup()
        assert data._split("train")[0] is one._split("train")[0] and data.fingerprint
    assert len(cache._KEPT) == 2
