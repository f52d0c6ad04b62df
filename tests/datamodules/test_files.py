import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from datamodules import DataError, MNISTDataModule
from datamodules.files import check_images, load_or_fetch
from tests.helpers import write_npz


def arrays(n: int = 20) -> dict[str, np.ndarray]:
    images = np.zeros((n, 28, 28), np.uint8)
    labels = (np.arange(n) % 10).astype(np.uint8)
    return {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}


def check(found: dict[str, np.ndarray]) -> None:
    check_images(found, (28, 28), 10)


def prepare(root: Path) -> None:
    MNISTDataModule(root=str(root)).prepare_data()


def left_behind(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if not path.name.endswith(".lock"))


def test_a_fetched_set_is_written_whole_and_read_the_next_time(tmp_path: Path):
    calls = []
    load_or_fetch(tmp_path / "new", "set", lambda scratch: calls.append(scratch) or arrays(), check)
    found = load_or_fetch(tmp_path / "new", "set", lambda scratch: pytest.fail("fetched twice"), check)
    assert np.array_equal(found["y_train"], arrays()["y_train"]) and len(calls) == 1
    assert left_behind(tmp_path / "new") == ["set.npz"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged or not an npz file"),
        (b"PK\x03\x04 not a zip", "is damaged or not an npz file"),
        (b"\x80\x04.", "is damaged or not an npz file"),
    ],
)
def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        prepare(tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "mnist.npz") in message and "delete it" in message and "\n" not in message


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float):
    write_npz(tmp_path / "mnist.npz", (28, 28))
    content = (tmp_path / "mnist.npz").read_bytes()
    (tmp_path / "mnist.npz").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match="damaged"):
        prepare(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_train": None}, "has no array y_train"),
        ({"x_train": np.zeros((20, 32, 32), np.uint8)}, "x_train is uint8 20x32x32, not uint8 Nx28x28"),
        ({"x_test": np.zeros((20, 28, 28), np.float32)}, "x_test is float32"),
        ({"y_train": np.full(20, 10)}, "labels from 10 to 10, outside 0 to 9"),
        ({"y_test": np.full(20, -1)}, "labels from -1 to -1"),
        ({"y_test": np.zeros(3, np.int64)}, "not one integer for each image"),
        ({"y_test": np.zeros(20)}, "not one integer for each image"),
        ({"x_train": np.array([object()] * 20)}, "damaged"),
    ],
)
def test_a_file_of_other_data_is_refused(tmp_path: Path, change: dict, message: str):
    kept = {key: value for key, value in {**arrays(), **change}.items() if value is not None}
    np.savez(tmp_path / "mnist.npz", **kept)
    with pytest.raises(DataError, match=message) as caught:
        prepare(tmp_path)
    assert "mnist.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_without_network_both_ways_out_are_named_and_nothing_is_left(tmp_path: Path, monkeypatch):
    def no_network(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", no_network)
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        prepare(tmp_path)
    message = str(caught.value)
    assert "connect to the network" in message and "mnist.npz" in message and left_behind(tmp_path) == []


def test_a_server_that_answers_with_an_error_is_the_network(tmp_path: Path):
    import urllib.error

    from datamodules.files import download

    def unavailable() -> None:
        raise urllib.error.HTTPError("http://x/y.gz", 503, "Service Unavailable", None, None)

    with pytest.raises(DataError, match="could not be downloaded .*503"):
        load_or_fetch(tmp_path, "set", lambda scratch: download("Set", tmp_path / "set.npz", unavailable), check)


@pytest.mark.parametrize("seed", range(8))
def test_a_compressed_file_with_flipped_bytes_is_refused(seed: int, tmp_path: Path):
    np.savez_compressed(tmp_path / "mnist.npz", **arrays(200))
    content = bytearray((tmp_path / "mnist.npz").read_bytes())
    for place in np.random.default_rng(seed).integers(0, len(content), 40):
        content[place] ^= 0xFF
    (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(DataError, match="mnist.npz"):
        prepare(tmp_path)


def test_a_download_that_dies_half_way_leaves_nothing(tmp_path: Path):
    def half(scratch: Path) -> dict[str, np.ndarray]:
        (scratch / "part").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_or_fetch(tmp_path, "set", half, check)
    assert left_behind(tmp_path) == []


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path):
    (tmp_path / ".set.part-dead").mkdir()
    (tmp_path / ".set.part-dead" / "x").write_bytes(b"x")
    load_or_fetch(tmp_path, "set", lambda scratch: arrays(), check)
    assert left_behind(tmp_path) == ["set.npz"]


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path, monkeypatch):
    def full(file: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(DataError, match="No space left on device.*--data.root"):
        load_or_fetch(tmp_path, "set", lambda scratch: arrays(), check)
    assert left_behind(tmp_path) == []


def broken_image(scratch: Path) -> dict[str, np.ndarray]:
    (scratch / "cat.png").write_bytes(b"no image")
    Image.open((scratch / "cat.png").open("rb"))
    return arrays()


def missing_image(scratch: Path) -> dict[str, np.ndarray]:
    Image.open(scratch.parent / "cats" / "cat.png")
    return arrays()


@pytest.mark.parametrize("fetch", [broken_image, missing_image])
def test_an_image_that_cannot_be_read_is_named(fetch, tmp_path: Path):
    with pytest.raises(DataError, match=r"set.npz cannot be made \(.*cat.png.*\); repair or replace"):
        load_or_fetch(tmp_path, "set", fetch, check)
    assert left_behind(tmp_path) == []


def test_a_disk_that_is_full_while_fetching_says_so(tmp_path: Path):
    def full(scratch: Path) -> dict[str, np.ndarray]:
        raise OSError(28, "No space left on device", str(scratch / "images.gz"))

    with pytest.raises(DataError, match="No space left on device.*--data.root"):
        load_or_fetch(tmp_path, "set", full, check)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match=r"cannot read or write .*file.*--data.root"):
        prepare(tmp_path / "file" / "data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot write"):
        prepare(tmp_path / "data")


def _slow_fetch(scratch: Path) -> dict[str, np.ndarray]:
    with open(scratch.parent / "fetches", "a") as file:
        file.write("x")
    time.sleep(0.5)
    return arrays()


def _load(root: Path) -> int:
    return int(load_or_fetch(root, "set", _slow_fetch, check)["y_train"].sum())


def test_processes_that_prepare_one_folder_at_once_fetch_once(tmp_path: Path):
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert set(pool.map(_load, [tmp_path] * 3)) == {int(arrays()["y_train"].sum())}
    assert (tmp_path / "fetches").read_text() == "x"


def test_torchvisions_own_folder_is_read_without_network(tmp_path: Path, monkeypatch):
    import struct

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, 20, 28, 28) + bytes(20 * 784))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 20) + bytes(range(10)) * 2)
    prepare(tmp_path)
    assert (tmp_path / "mnist.npz").is_file()
