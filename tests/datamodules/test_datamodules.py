import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import CIFAR10DataModule, DataError, DigitsDataModule, ImageDataModule, MNISTDataModule
from tests.helpers import write_npz

ROWS = [
    (MNISTDataModule, 200, 100),
    (CIFAR10DataModule, 200, 100),
    (DigitsDataModule, 1437, 360),
]


def ready(kind: type[ImageDataModule], root: Path, **options: object) -> ImageDataModule:
    data = kind(root=str(root), **{"val_size": 50, "batch_size": 32, **options})  # type: ignore[arg-type]
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize(("kind", "n_train", "n_test"), ROWS)
def test_splits_are_whole_disjoint_and_of_the_declared_shape(kind, n_train: int, n_test: int, data_root: Path):
    data = ready(kind, data_root)
    train, val = data._index["train"], data._index["val"]
    assert len(val) == 50 and sorted(torch.cat([train, val]).tolist()) == list(range(n_train))
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape[1:] == data.image_shape and images.min() >= 0 and images.max() <= 1
    assert labels.max() < data.num_classes == len(data.classes)
    assert sum(len(labels) for _, labels in data.test_dataloader()) == n_test


def test_pixels_are_those_of_the_file(data_root: Path):
    with np.load(data_root / "cifar10.npz") as file:
        expected = torch.from_numpy(file["x_test"][:5].transpose(0, 3, 1, 2).astype(np.float32) / 255)
    images, _ = next(iter(ready(CIFAR10DataModule, data_root).test_dataloader()))
    assert torch.allclose(images[:5], expected)


def test_seed_decides_split_order_and_few_shot_subset(data_root: Path):
    def draw(seed: int) -> tuple[list[int], list[int]]:
        data = ready(MNISTDataModule, data_root, seed=seed, labels_per_class=2)
        return data._index["train"].tolist(), next(iter(data.train_dataloader()))[1].tolist()

    assert draw(1) == draw(1) and draw(1) != draw(2)


def test_the_runs_seed_is_used_when_none_is_given(data_root: Path, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert torch.equal(
        ready(MNISTDataModule, data_root)._index["val"], ready(MNISTDataModule, data_root, seed=7)._index["val"]
    )


def test_few_shot_means_that_many_of_each_class_and_none_of_the_validation_images(data_root: Path):
    data = ready(MNISTDataModule, data_root, labels_per_class=3)
    labels = torch.cat([labels for _, labels in data.train_dataloader()])
    assert torch.equal(labels.bincount(minlength=10), torch.full((10,), 3))
    assert not set(data._index["train"].tolist()) & set(data._index["val"].tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels_per_class": 1000}, "labels_per_class is 1000, but mnist has"),
        ({"val_size": 200}, "val_size is 200, but mnist has 200 training images"),
    ],
)
def test_options_that_do_not_fit_the_data_are_refused(options: dict, message: str, data_root: Path):
    with pytest.raises(DataError, match=message):
        ready(MNISTDataModule, data_root, **options)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"val_size": -1}, {"labels_per_class": 0}, {"shift": -1}])
def test_impossible_options_are_refused_at_once(options: dict):
    with pytest.raises(ValueError, match=f"data.{next(iter(options))} is"):
        MNISTDataModule(**options)


def test_examples_are_random_but_always_the_same(data_root: Path):
    data = ready(MNISTDataModule, data_root)
    a, labels = data.examples("test", 20)
    assert torch.equal(a, data.examples("test", 20)[0]) and a.shape == (20, 1, 28, 28)
    assert labels.tolist() != data.examples("test", 20, seed=1)[1].tolist()
    assert len(data.examples("test", 10**6)[0]) == 100
    parts = [*data.example_batches("test", 20, 3, slice(1, None, 2))]
    assert torch.equal(torch.cat([images for images, _ in parts]), a[1::2]) and [len(y) for _, y in parts] == [
        3,
        3,
        3,
        1,
    ]
    assert torch.equal(torch.cat([y for _, y in parts]), labels[1::2])


def test_runs_of_one_process_share_the_data_and_notice_a_new_file(tmp_path: Path):
    write_npz(tmp_path / "mnist.npz", (28, 28))
    a, b = ready(MNISTDataModule, tmp_path), ready(MNISTDataModule, tmp_path)
    assert a._split("train")[0].data_ptr() == b._split("train")[0].data_ptr()
    write_npz(tmp_path / "mnist.npz", (28, 28), n_train=300, seed=1)
    assert len(ready(MNISTDataModule, tmp_path)._split("train")[0]) == 300


class Drawn(ImageDataModule):
    """A user's data module that knows nothing of the process-wide copies."""

    name, classes = "drawn", ("a", "b")

    def __init__(self, size: int = 4, fill: object = 1, *, channels: int = 1, **options: object) -> None:
        super().__init__(val_size=2, **options)  # type: ignore[arg-type]
        self.fill, self.image_shape = fill, (channels, size, size)

    def read(self) -> dict[str, np.ndarray]:
        channels, *size = self.image_shape
        first = next(iter(self.fill)) if isinstance(self.fill, set | dict) else np.ravel(np.asarray(self.fill))[0]
        images = np.full((6, *size, channels), first, np.uint8)
        return {"x_train": images, "y_train": np.arange(6) % 2, "x_test": images, "y_test": np.arange(6) % 2}


class Inverted(Drawn):
    def read(self) -> dict[str, np.ndarray]:
        return {name: 255 - array if name[0] == "x" else array for name, array in super().read().items()}


class Given(Drawn):
    """Changes what `read()` returns by a function, `fill`."""

    def read(self) -> dict[str, np.ndarray]:
        images, labels = np.zeros((6, 4, 4), np.uint8), np.arange(6) % 2
        return self.fill({"x_train": images, "y_train": labels, "x_test": images, "y_test": labels})  # type: ignore[operator]


WRONG_ARRAYS = {
    "none": (lambda arrays: None, "a dictionary of NumPy arrays x_train, y_train, x_test, y_test"),
    "tuple": (lambda arrays: tuple(arrays.values()), "a dictionary of NumPy arrays"),
    "missing": (lambda arrays: arrays | {"y_test": None}, "a dictionary of NumPy arrays"),
    "tensors": (lambda arrays: {k: torch.from_numpy(v) for k, v in arrays.items()}, "a dictionary of NumPy arrays"),
    "floats": (
        lambda arrays: arrays | {"x_train": np.zeros((6, 4, 4))},
        "x_train as uint8 .* not float64 of 6 x 4 x 4",
    ),
    "flat": (lambda arrays: arrays | {"x_test": np.zeros((6, 16), np.uint8)}, "x_test .* not uint8 of 6 x 16"),
    "fewer": (lambda arrays: arrays | {"y_train": np.arange(5)}, "integers of 6, one for each image, not int64 of 5"),
    "labels": (lambda arrays: arrays | {"y_test": np.zeros(6)}, "y_test as integers.* not float64 of 6"),
}


@pytest.mark.parametrize("wrong", WRONG_ARRAYS)
def test_arrays_that_are_no_data_are_named(wrong: str):
    change, complaint = WRONG_ARRAYS[wrong]
    with pytest.raises(DataError, match=rf"Given.read\(\) must return .*{complaint}"):
        Given(fill=change).prepare_data()
    assert str(Given()) == "Given"


def pixels(data: ImageDataModule) -> torch.Tensor:
    return data._tensors(torch.device("cpu"))["x_train"]


@pytest.mark.parametrize(
    "other",
    [
        lambda: Drawn(5),
        lambda: Drawn(channels=3),
        lambda: Drawn(size=8, channels=3),
        lambda: Drawn(fill=2),
        lambda: Drawn(fill=[2]),
        lambda: Drawn(fill=np.array([2])),
        lambda: Drawn(fill=torch.tensor([2])),
        Inverted,
    ],
)
def test_another_class_or_argument_reads_its_own_images_without_the_authors_care(other):
    first, second = Drawn(), other()
    assert (pixels(first) == 1).all() and pixels(first).shape == (6, 1, 4, 4)
    expected = torch.from_numpy(second.read()["x_train"]).permute(0, 3, 1, 2)
    assert torch.equal(pixels(second), expected) and tuple(pixels(second).shape[1:]) == second.image_shape
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize("fill", [1, [1, 2], np.array([1, 2]), torch.tensor([1, 2]), {1}, {1: [2]}])
def test_equal_arguments_share_one_copy_however_they_are_given(fill: object):
    """Nor do arguments make another copy that are used only after the images were read."""
    one = Drawn(4, fill)
    other = Drawn(size=4, fill=copy.deepcopy(fill), batch_size=2, shift=1, predict_split="val", eval_batch_size=3)
    assert pixels(one) is pixels(other) and one.fingerprint == other.fingerprint


def test_a_redefined_class_reads_anew():
    """As in a notebook whose cell runs again: the class has the same name, and another `read`."""

    def define(value: int) -> ImageDataModule:
        class Cell(Drawn):
            def read(self) -> dict[str, np.ndarray]:
                return {name: np.full_like(array, value) for name, array in super().read().items()}

        return Cell()

    assert [pixels(define(value)).max().item() for value in (1, 0)] == [1, 0]


def test_data_that_were_read_stay_those_of_the_instance(tmp_path: Path):
    """A file that changes during a run would not fit the indices of its split."""
    write_npz(tmp_path / "mnist.npz", (28, 28), n_train=300)
    data = ready(MNISTDataModule, tmp_path)
    write_npz(tmp_path / "mnist.npz", (28, 28), n_train=100, seed=1)
    assert len(data._split("train")[0]) == 300 and len(data.examples("train", 400)[0]) == 250


def test_copies_and_pickles_keep_their_arguments():
    data = pickle.loads(pickle.dumps(copy.deepcopy(Drawn(fill=3))))
    assert (pixels(data) == 3).all()


def test_shift_is_for_training_only(data_root: Path):
    plain, shifted = ready(MNISTDataModule, data_root), ready(MNISTDataModule, data_root, shift=2)
    assert torch.equal(next(iter(plain.val_dataloader()))[0], next(iter(shifted.val_dataloader()))[0])
    assert not torch.equal(next(iter(plain.train_dataloader()))[0], next(iter(shifted.train_dataloader()))[0])


def test_predict_keeps_the_order_of_the_chosen_split(data_root: Path):
    data = ready(MNISTDataModule, data_root, predict_split="train")
    labels = torch.cat([labels for _, labels in data.predict_dataloader()])
    assert len(labels) == 150 and torch.equal(labels, data._split("train")[1][data._index["train"]])


def test_digits_are_the_real_ones():
    from sklearn.datasets import load_digits

    data = ready(DigitsDataModule, Path("unused"))
    tensors = data._tensors(torch.device("cpu"))
    labels = torch.cat([tensors["y_train"], tensors["y_test"]])
    assert torch.equal(labels.bincount(), torch.from_numpy(load_digits().target).bincount())
    share = tensors["y_test"].bincount() / labels.bincount()
    assert (share - 0.2).abs().max() < 0.01
