"""Data sets of the optional packages medmnist and datasets, by small fakes of these packages."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules import DataError, HuggingFaceDataModule, MedMNISTDataModule
from datamodules.downloaded_images import DownloadedImagesDataModule

PARTS = {"train": 12, "val": 4, "test": 6}


def made(data: DownloadedImagesDataModule) -> DownloadedImagesDataModule:
    data.prepare_data()
    data.setup()
    return data


def counts(data: DownloadedImagesDataModule) -> list[int]:
    return [len(data._split(part)[2]) for part in ("train", "val", "test")]


class PathMNIST:
    """Writes the file that the package of MedMNIST downloads."""

    downloads = 0

    def __init__(self, split: str, root: str, download: bool, size: int) -> None:
        PathMNIST.downloads += 1
        arrays = {f"{part}_images": np.full((n, size, size, 3), n, np.uint8) for part, n in PARTS.items()}
        arrays |= {f"{part}_labels": np.arange(n)[:, None] % 2 for part, n in PARTS.items()}
        np.savez(Path(root, "pathmnist.npz" if size == 28 else f"pathmnist_{size}.npz"), **arrays)


class BrokenMNIST:
    def __init__(self, **options: object) -> None:
        raise RuntimeError("Automatic download failed!")


@pytest.fixture
def medmnist(monkeypatch: pytest.MonkeyPatch) -> None:
    package: Any = ModuleType("medmnist")
    package.PathMNIST, package.BrokenMNIST = PathMNIST, BrokenMNIST
    info = {"label": {"0": "adipose", "1": "debris"}, "task": "multi-class", "url": "the url"}
    package.INFO = {
        "pathmnist": info | {"python_class": "PathMNIST"},
        "brokenmnist": info | {"python_class": "BrokenMNIST"},
        "chestmnist": info | {"python_class": "ChestMNIST", "task": "multi-label, binary-class"},
        "organmnist3d": info | {"python_class": "OrganMNIST3D"},
    }
    monkeypatch.setitem(sys.modules, "medmnist", package)


def test_medmnist_is_downloaded_once_with_its_parts_and_names(tmp_path: Path, medmnist: None):
    root = str(tmp_path / "data")
    data = made(MedMNISTDataModule("PathMNIST", root))
    assert data.classes == ("adipose", "debris") and data.image_shape == (3, 28, 28) and counts(data) == [12, 4, 6]
    assert made(MedMNISTDataModule("pathmnist", root, resolution=64)).image_shape == (3, 64, 64)
    assert made(MedMNISTDataModule("pathmnist", root, size=8, cache=None)).image_shape == (3, 8, 8)
    assert PathMNIST.downloads == 2
    assert sorted(path.name for path in Path(root).glob("[!.]*")) == ["pathmnist.npz", "pathmnist_64.npz"]
    PathMNIST("test", str(tmp_path), True, 28)  # the file of MedMNIST itself
    assert made(MedMNISTDataModule("pathmnist", str(tmp_path))).fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pathmnst", "which MedMNIST does not have; did you mean pathmnist?"),
        (
            "chestmnist",
            "chestmnist has several labels for an image, which cannot be used; give one of brokenmnist, path",
        ),
        ("organmnist3d", "organmnist3d has three-dimensional images"),
        ("brokenmnist", "could not be downloaded .Automatic.*; connect .* or put .*brokenmnist.npz .the url"),
    ],
)
def test_medmnist_that_cannot_be_used_is_refused(name: str, message: str, tmp_path: Path, medmnist: None):
    with pytest.raises(DataError, match=message):
        made(MedMNISTDataModule(name, str(tmp_path)))


class ClassLabel(SimpleNamespace):
    names: list[str]


class Rows(list[dict[str, Any]]):
    features: dict[str, Any]

    def __getitem__(self, key: Any) -> Any:
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The hub: data sets by name. Returns it, with the arguments of the last call as `called`."""
    package: Any = ModuleType("datasets")
    package.Image, package.ClassLabel = type("Image", (), {}), ClassLabel
    package.exceptions = SimpleNamespace(DatasetsError=type("DatasetsError", (Exception,), {}))
    hub: dict[str, Any] = {}

    def load_dataset(path: str, name: str | None, **options: object) -> Any:
        hub["called"] = path, name, options
        if path not in hub:
            raise package.exceptions.DatasetsError(f"{path} is not on the hub")
        return hub[path]

    package.load_dataset = load_dataset
    features = {"id": None, "img": package.Image(), "kind": ClassLabel(names=["cat", "dog"]), "tags": []}
    for name, parts in {"me/pets": ("train", "validation", "test"), "me/few": ("train",)}.items():
        hub[name] = {}
        for part in parts:
            hub[name][part] = Rows(
                {"id": k, "img": Image.new("RGB", (9 + k, 9), (k, 0, 0)), "kind": k % 2, "tags": [k]} for k in range(10)
            )
            hub[name][part].features = features
    monkeypatch.setitem(sys.modules, "datasets", package)
    return hub


def test_hugging_face_columns_parts_and_class_names(tmp_path: Path, datasets: dict[str, Any]):
    options: dict[str, Any] = {"root": str(tmp_path), "cache": str(tmp_path / "cache"), "size": 8}
    data = made(HuggingFaceDataModule("me/pets", config="small", revision="v1", **options))
    assert data.classes == ("cat", "dog") and data.image_shape == (3, 8, 8) and counts(data) == [10, 10, 10]
    folder = str(tmp_path / "huggingface")
    assert datasets["called"] == ("me/pets", "small", {"cache_dir": folder, "revision": "v1"})
    for label, classes in (("id", 10), ("kind", 2)):
        few = made(HuggingFaceDataModule("me/few", label=label, test_size=2, val_size=2, **options))
        assert few.num_classes == classes and counts(few) == [6, 2, 2]
    assert few._split("test")[1].tolist() == [0, 1]
    for row in datasets["me/pets"]["test"]:
        row["kind"] = -1
    assert counts(made(HuggingFaceDataModule("me/pets", test_size=2, **options))) == [8, 10, 2]
    for arguments, message in [
        ({"dataset": "me/dogs"}, "me/dogs could not be downloaded .me/dogs is not on the hub.; connect"),
        ({"dataset": "me/pets", "image": "id"}, "me/pets has no column of images, but id, img"),
        (
            {"dataset": "me/pets", "label": "breed"},
            "me/pets has no column breed, but id, img, kind, tags; change data.l",
        ),
        ({"dataset": "me/pets", "label": "tags"}, "me/pets has a list in the column tags, not one label for each"),
        (
            {"dataset": "me/few", "size": None},
            "me/few has pictures, which may differ in size; give one with --data.size",
        ),
    ]:
        with pytest.raises(DataError, match=message):
            made(HuggingFaceDataModule(**{**options, **arguments}))


def test_missing_packages_are_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for package, data in {
        "medmnist": MedMNISTDataModule("pathmnist"),
        "datasets": HuggingFaceDataModule("a/b"),
    }.items():
        monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]
        data.root = tmp_path
        with pytest.raises(DataError, match=rf"needs {package}: pip install 'genlab\[{package}\]'"):
            made(data)
