import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import ArrayDataModule, DataError

CPU = torch.device("cpu")


def colours(number: int = 20, height: int = 6, width: int = 8) -> np.ndarray:
    """Random images, uint8 N x H x W x 3."""
    return np.random.default_rng(0).integers(0, 256, (number, height, width, 3), np.uint8)


def saved(folder: Path, **arrays: Any) -> str:
    path = folder / "x.npz"
    np.savez(path, **arrays)
    return str(path)


def made(file: str, **options: Any) -> ArrayDataModule:
    data = ArrayDataModule(file, **options)
    data.prepare_data()
    data.setup()
    return data


def stored(data: ArrayDataModule) -> list[bytes]:
    """The pixels of each training and test image, C x H x W, sorted."""
    tensors = data._tensors(CPU)
    return pixels(torch.cat([tensors["x_train"], tensors["x_test"]]).numpy())


def pixels(images: np.ndarray) -> list[bytes]:
    return sorted(image.tobytes() for image in images)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda x: x, {}),
        (lambda x: x.transpose(0, 3, 1, 2), {}),
        (lambda x: x / 255, {}),
        (lambda x: (x / 255).astype(np.float32), {}),
        (lambda x: x.astype(np.int64), {}),
        (lambda x: x.astype(np.uint16) * 257, {"value_range": (0, 65535)}),
        (lambda x: x / 127.5 - 1, {"value_range": (-1, 1)}),
        (lambda x: np.concatenate([x, x[..., :0]], 3), {"layout": "NHWC"}),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_pixels_are_those_of_the_file_in_every_layout_and_type(change, options: dict, suffix: str, tmp_path: Path):
    images, path = colours(), tmp_path / f"x{suffix}"
    np.savez(path, images=change(images)) if suffix == ".npz" else np.save(path, change(images))
    data = made(str(path), **options)
    assert data.image_shape == (3, 6, 8) and data.classes == ("image",) and data.num_classes == 1
    assert stored(data) == pixels(images.transpose(0, 3, 1, 2))


def test_grey_black_and_white_and_ambiguous_shapes(tmp_path: Path):
    images = colours()
    black_and_white = images[..., 0] > 127
    data = made(saved(tmp_path, images=black_and_white))
    assert stored(data) == pixels(black_and_white * np.uint8(255))
    thin = np.zeros((20, 3, 5, 3), np.uint8)
    with pytest.raises(DataError, match="either axis can be the channels; give --data.layout NHWC or NCHW"):
        made(saved(tmp_path, images=thin))
    assert made(saved(tmp_path, images=thin), layout="NHWC").image_shape == (3, 3, 5)
    assert made(saved(tmp_path, images=thin), layout="NCHW").image_shape == (3, 5, 3)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.repeat([40, 7, -1], [10, 6, 4]), ("-1", "7", "40")),
        (np.repeat([40.0, 7, -1], [10, 6, 4]), ("-1", "7", "40")),
        (np.repeat(["cat", "emu", "ant"], [10, 6, 4]), ("ant", "cat", "emu")),
        (np.repeat([b"cat", b"emu", b"ant"], [10, 6, 4]), ("ant", "cat", "emu")),
        (np.repeat([2, 1, 0], [10, 6, 4])[:, None], ("0", "1", "2")),
        (np.eye(3)[np.repeat([2, 1, 0], [10, 6, 4])], ("0", "1", "2")),
        (np.repeat([True, False], 10), ("0", "1")),
    ],
)
def test_labels_of_any_kind_become_numbers_with_names_and_the_test_part_is_stratified(labels, classes, tmp_path: Path):
    data = made(saved(tmp_path, images=colours(), labels=labels), test_size=10, val_size=2, seed=3)
    assert data.classes == classes
    tensors = data._tensors(CPU)
    assert torch.equal(tensors["y_test"].bincount(), tensors["y_train"].bincount())
    other = made(saved(tmp_path, images=colours(), labels=labels), test_size=10, val_size=2, seed=4)
    assert torch.equal(other._tensors(CPU)["x_test"], tensors["x_test"])
    assert len(data._index["val"]) == 2 and len(data._index["train"]) == 8
    few = made(saved(tmp_path, images=colours(), labels=labels), test_size=4, val_size=0.2, labels_per_class=1)
    assert sorted(few._split("train")[1][few._index["train"]].tolist()) == list(range(len(classes)))


def test_parts_names_of_arrays_and_class_names(tmp_path: Path):
    images, labels = colours(12), np.arange(12) % 3
    parts = {"train": slice(0, 6), "val": slice(6, 8), "test": slice(8, 12)}
    keras = {f"x_{part}": images[rows] for part, rows in parts.items()}
    keras |= {f"y_{part}": labels[rows] for part, rows in parts.items()}
    data = made(saved(tmp_path, **keras, classes=np.array(["red", "green", "blue"])))
    assert data.classes == ("red", "green", "blue") and [len(data._split(part)[2]) for part in parts] == [6, 2, 4]
    batch, numbers = next(iter(data.val_dataloader()))
    assert torch.equal(batch, torch.from_numpy(images[6:8]).permute(0, 3, 1, 2) / 255) and numbers.tolist() == [0, 1]
    medmnist = {f"{part}_images": images[rows] for part, rows in parts.items()}
    medmnist |= {f"{part}_labels": labels[rows, None] for part, rows in parts.items()}
    assert torch.equal(made(saved(tmp_path, **medmnist)).examples("test", 4)[0], data.examples("test", 4)[0])
    named = saved(tmp_path, photos=images, kinds=labels, others=images[:3])
    with pytest.raises(DataError, match="x.npz has no arrays x_train or images, but photos \\(12 x 6 x 8 x 3\\)"):
        made(named)
    assert made(named, images="photos", labels="kinds").classes == ("0", "1", "2")
    with pytest.raises(DataError, match="has no array kind, but photos .* give another --data.labels"):
        made(named, images="photos", labels="kind")
    np.save(tmp_path / "y.npy", labels)
    np.save(tmp_path / "x.npy", images)
    assert made(str(tmp_path / "x.npy"), labels=str(tmp_path / "y.npy")).num_classes == 3


def test_instances_with_other_options_never_share_images(tmp_path: Path):
    file = saved(tmp_path, images=colours(), more=colours()[::-1] // 2, labels=np.arange(20) % 2, odd=np.arange(20) % 5)
    options: list[dict[str, Any]] = [
        *({}, {"size": 4}, {"size": (4, 5)}, {"grayscale": True}, {"test_size": 0.5}, {"images": "more"}),
        *({"labels": "odd"}, {"value_range": (0, 100)}, {"size": 4, "resize": "stretch"}, {"size": 4, "resize": "pad"}),
        {"size": 4, "resize": "pad", "background": "red"},
    ]
    assert len({made(file, **option).fingerprint for option in options}) == len(options)
    plain, flipped = made(file), made(file, flip=True, shift=1, batch_size=8, val_size=4, seed=5, labels_per_class=3)
    assert plain._tensors(CPU) is flipped._tensors(CPU)
    assert [made(file, **option).image_shape for option in options[:4]] == [(3, 6, 8), (3, 4, 4), (3, 4, 5), (1, 6, 8)]


def test_images_are_mirrored_in_training_only(tmp_path: Path):
    images = colours(12)
    data = made(saved(tmp_path, images=images), flip=True, batch_size=9, val_size=1, test_size=2)
    originals = [
        set(pixels(batch.numpy())) for batch in (data.examples("train", 20)[0], data.examples("train", 20)[0].flip(3))
    ]
    seen = pixels(next(iter(data.train_dataloader()))[0].numpy())
    assert all(any(image in kind for image in seen) for kind in originals)
    assert all(image in originals[0] | originals[1] for image in seen)
    assert torch.equal(next(iter(data.test_dataloader()))[0], data._tensors(CPU)["x_test"] / 255)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("/nowhere/evil").touch, ())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.array([Evil()] * 4)}, "x.npz, images is object; save images as uint8"),
        (
            {"images": colours(), "labels": np.array([Evil()] * 20)},
            "has pickled Python objects, which are never loaded",
        ),
        ({"images": np.array(["a"])}, "images is <U1; save images as uint8"),
        ({"images": colours()[:0]}, "images is empty; its shape is 0 x 6 x 8 x 3"),
        ({"images": colours()[0, 0]}, "x.npz has an array of 8x3; images are N x H x W"),
        ({"images": colours()[..., :2]}, "images of 20x6x8x2, where no axis has 1 or 3 channels"),
        ({"images": colours() * 1.0}, "float64 with the values 0 to 255, not 0 to 1; give .* --data.value_range"),
        ({"images": colours() / -255}, "with the values -1 to -?0, not 0 to 1"),
        ({"images": colours().astype(int) * 2}, "int64 with the values 0 to 510, not 0 to 255"),
        ({"images": (colours() > 99).astype(int)}, "int64 with the values 0 to 1, not 0 to 255"),
        ({"images": np.full((4, 5, 5), np.nan)}, "pixels that are no finite numbers"),
        (
            {"images": colours(), "labels": np.arange(19)},
            "images of shape 20 x 6 x 8 x 3, but labels of shape 19; give one",
        ),
        ({"images": colours(), "labels": np.ones((20, 4))}, "rows of 4 numbers that have not exactly one 1 each"),
        ({"images": colours(), "labels": np.linspace(0, 1, 20)}, "labels are not whole numbers"),
        ({"x_train": colours(), "y_train": np.arange(20), "x_test": colours()}, "labels, but none for x_test"),
        (
            {"x_train": colours(), "x_test": colours()[:, :5]},
            "images of 6 x 8 x 3 and of 5 x 8 x 3; give all .* one size",
        ),
        (
            {"images": colours(1)},
            "x.npz has 1 image for training and the test, of which 1 would be held",
        ),
        (
            {"images": colours(2)},
            "x.npz has 1 image for training and validation, of which 1 would be held",
        ),
    ],
)
def test_files_that_cannot_be_used_are_refused_in_one_line(arrays: dict, message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message) as caught:
        made(saved(tmp_path, **arrays))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_broken_files_and_impossible_options(tmp_path: Path):
    with pytest.raises(DataError, match="is a folder; give a file, or --data ImageFolderDataModule"):
        made(str(tmp_path))
    with pytest.raises(DataError, match="there is no file .*x.npz; give an .npz or .npy file"):
        made(str(tmp_path / "x.npz"))
    for content in (
        b"",
        b"PK\x03\x04 no zip",
        pickle.dumps(Evil()),
        Path(saved(tmp_path, images=colours())).read_bytes()[:900],
    ):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(DataError, match="x.npy (is damaged|has pickled)"):
            made(str(tmp_path / "x.npy"))
    for options, message in [
        ({"layout": "HWNC"}, "data.layout is HWNC; it is one of auto, NHW"),
        ({"size": 0}, "data.size is 0"),
        ({"resize": "squeeze"}, "data.resize is squeeze; it is one of crop, pad, stretch"),
        ({"test_size": 0}, "data.test_size is 0; give a share below 1 or a whole number"),
        ({"val_size": 1.5}, "data.val_size is 1.5"),
        ({"value_range": (1, 0)}, "data.value_range is 1 to 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            ArrayDataModule("x.npz", **options)
    with pytest.raises(DataError, match="which is not NHW; give another --data.layout"):
        made(saved(tmp_path, images=colours()), layout="NHW")
