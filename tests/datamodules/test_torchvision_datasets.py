import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from datamodules import DataError, TorchvisionDataModule
from datamodules.torchvision_sets import torchvision_class

CPU = torch.device("cpu")


def write_idx(path: Path, array: np.ndarray) -> None:
    """Writes an array of uint8 in the format of MNIST."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


def images(number: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (number, 28, 28), np.uint8)


def write_mnist_like(folder: Path, names: str, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Writes raw files as torchvision's folder has them; returns the images of train and test."""
    made = {}
    for seed, part in enumerate(("train", "test")):
        made[part] = images(len(labels), seed)
        prefix = names.format({"train": part, "test": "t10k"}[part] if names == "{}" else part)
        write_idx(folder / f"{prefix}-images-idx3-ubyte", made[part])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels.astype(np.uint8))
    return made


def made(root: Path, dataset: str, **options: Any) -> TorchvisionDataModule:
    data = TorchvisionDataModule(dataset, root=str(root), **{"cache": str(root / "cache"), **options})
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every download fails."""

    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("no network")

    for module in ("mnist", "cifar", "eurosat", "svhn", "imagenette"):
        for name in ("download_and_extract_archive", "download_url"):
            monkeypatch.setattr(f"torchvision.datasets.{module}.{name}", fail, raising=False)


def test_fashion_mnist_is_written_once_and_then_needs_no_other_file(tmp_path: Path, offline: None):
    raw = tmp_path / "FashionMNIST" / "raw"
    expected = write_mnist_like(raw, "{}", np.arange(40) % 10)
    data = made(tmp_path, "FashionMNIST", val_size=10)
    assert data.image_shape == (1, 28, 28) and data.classes[:2] == ("T-shirt/top", "Trouser") and data.num_classes == 10
    assert torch.equal(data._tensors(CPU)["x_test"][:, 0], torch.from_numpy(expected["test"]))
    assert data._split("val")[1][data._index["val"]].bincount().tolist() == [1] * 10
    for file in raw.iterdir():
        file.unlink()
    small = made(tmp_path, "FashionMNIST", size=14, grayscale=False)
    assert small.image_shape == (3, 14, 14) and small.classes == data.classes
    assert small.fingerprint != data.fingerprint == made(tmp_path, "FashionMNIST", flip=True).fingerprint
    with pytest.raises(DataError) as caught:
        made(tmp_path / "other", "FashionMNIST")
    assert "could not be downloaded" in str(caught.value) and "no network" in str(caught.value)
    assert f"into {tmp_path / 'other'}, or, for images of one size, {tmp_path / 'other'}/fashionmnist.npz" in str(
        caught.value
    )


def test_splits_orientation_and_labels_with_gaps(tmp_path: Path, offline: None):
    """EMNIST's letters are the numbers 1 to 26, and its images lie on their side."""
    expected = write_mnist_like(tmp_path / "EMNIST" / "raw", "emnist-letters-{}", np.repeat([1, 3], 10))
    data = made(tmp_path, "EMNIST", split="letters")
    assert data.classes == ("a", "c") and (tmp_path / "emnist_letters.npz").exists()
    assert torch.equal(data._tensors(CPU)["x_test"][:, 0], torch.from_numpy(expected["test"]).mT)
    assert made(tmp_path, "EMNIST", split="letters", labels=False).classes == ("image",)
    with pytest.raises(ValueError, match="data.split is missing; EMNIST needs one of byclass, bymerge, balanced"):
        TorchvisionDataModule("EMNIST")
    with pytest.raises(DataError, match="torchvision's EMNIST: Unknown value 'greek' .* change --data.split"):
        made(tmp_path, "EMNIST", split="greek")


def write_photos(folder: Path, number: int, seed: int = 0) -> None:
    """Writes pictures of different sizes, whose colour is their number."""
    folder.mkdir(parents=True)
    for index in range(number):
        Image.new("RGB", (20 + index, 30), (index, 100 * seed, 50)).save(folder / f"{seed}_{index:02}.png")


def test_pictures_of_varying_size_are_decoded_once_and_a_test_part_is_held_out(tmp_path: Path, offline: None):
    for seed, name in enumerate(("Forest", "River")):
        write_photos(tmp_path / "eurosat" / "2750" / name, 10, seed)
    with pytest.raises(DataError, match="EuroSAT in .* pictures, which may differ in size; give one with --data.size"):
        made(tmp_path, "EuroSAT")
    data = made(tmp_path, "EuroSAT", size=(8, 12), test_size=4)
    assert data.image_shape == (3, 8, 12) and data.classes == ("Forest", "River")
    tensors = data._tensors(CPU)
    assert tensors["y_test"].tolist() == [0, 0, 1, 1] and len(tensors["y_train"]) == 16
    for part in ("train", "test"):
        x, y = data.examples(part, 20)
        assert torch.equal((x[:, 1] * 255).round().long(), (100 * y[:, None, None]).expand(-1, 8, 12))
    for folder in (tmp_path / "eurosat" / "2750").iterdir():
        for file in folder.iterdir():
            file.unlink()
    again = made(tmp_path, "EuroSAT", size=(8, 12), test_size=4, seed=9)
    assert again.fingerprint == data.fingerprint
    with pytest.raises(DataError, match="EuroSAT"):
        made(tmp_path, "EuroSAT", size=9)


class Faces(torchvision.datasets.VisionDataset):
    """Pictures with two labels each and secret labels of the test, in three splits, as CelebA's."""

    attr_names = ("Smiling", "Young", "")

    def __init__(self, root: str, split: str = "train", target_transform: Any = None, secret: bool = False) -> None:
        if split not in ("train", "valid", "test"):
            raise ValueError(f"Unknown value '{split}' for argument split. Valid values are {{train, valid, test}}.")
        super().__init__(root)
        self.split, self.secret = split, secret

    def __len__(self) -> int:
        return {"train": 12, "valid": 4, "test": 6}[self.split]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        picture = Image.new("RGBA", (10 + index, 10), (0, 0, 0, 0))
        return picture, None if self.secret and self.split == "test" else torch.tensor([index % 2, index % 3 == 0])


def test_one_of_several_labels_own_validation_part_and_secret_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torchvision.datasets, "CelebA", Faces)
    with pytest.raises(
        DataError, match="CelebA has a list of 2 for each image, not one label; choose one with --data.attribute"
    ):
        made(tmp_path, "CelebA", size=8)
    with pytest.raises(DataError, match="CelebA has no label Old; give one of Smiling, Young as --data.attribute"):
        made(tmp_path, "CelebA", size=8, attribute="Old")
    data = made(tmp_path, "CelebA", size=8, attribute="Young", background="red")
    assert [len(data._split(part)[2]) for part in ("train", "val", "test")] == [12, 4, 6]
    assert data.classes == ("0", "1") and data._split("test")[1].tolist() == [1, 0, 0, 1, 0, 0]
    assert data.examples("test", 6)[0].amax((0, 2, 3)).tolist() == [1, 0, 0]
    smiling = made(tmp_path, "CelebA", size=8, attribute="Smiling", cache=None)
    assert smiling._split("test")[1].tolist() == [0, 1] * 3
    secret = made(tmp_path, "CelebA", size=8, attribute=0, options={"secret": True}, test_size=0.25)
    assert [len(secret._split(part)[2]) for part in ("train", "val", "test")] == [9, 4, 3]
    assert made(tmp_path, "CelebA", size=8, labels=False, grayscale=True).image_shape == (1, 8, 8)


def test_names_that_are_unknown_or_no_labelled_images_are_refused_with_a_suggestion():
    for name, message in {
        "FashionMnist": "which torchvision does not have; did you mean FashionMNIST",
        "CIFAR": "did you mean CIFAR10",
        "Photographs": "torchvision does not have; .*CIFAR100, .*SVHN",
        "ImageFolder": "give --data ImageFolderDataModule",
        "CocoDetection": "which has no images with one label each",
    }.items():
        with pytest.raises(ValueError, match=message):
            TorchvisionDataModule(name)
    with pytest.raises(ValueError, match="data.split is given, but FashionMNIST has no argument split"):
        TorchvisionDataModule("FashionMNIST", split="train")
    with pytest.raises(ValueError, match="data.folds is given, but SVHN has no argument folds"):
        TorchvisionDataModule("SVHN", options={"folds": 1})
    with pytest.raises(ValueError, match="data.options has split; leave it out"):
        TorchvisionDataModule("SVHN", options={"split": "extra"})
    named = "KMNIST QMNIST EMNIST SVHN CIFAR100 STL10 CelebA Flowers102 OxfordIIITPet Food101 DTD GTSRB ImageNet USPS"
    assert all(torchvision_class(name) for name in named.split())
