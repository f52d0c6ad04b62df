import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import train
from datamodules import CIFAR10DataModule, DataError, ImageFolderDataModule
from datamodules.image_reader import ImageReader
from tests.datamodules.images import HEIGHT, WIDTH, numbered, write_images

SIZE = (HEIGHT, WIDTH)


def ready(folder: Path, **options: object) -> ImageFolderDataModule:
    options = {"size": SIZE, "seed": 3, "batch_size": 4, "cache": str(folder.parent / "cache"), **options}
    data = ImageFolderDataModule(str(folder), **options)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup()
    return data


def numbers(data: ImageFolderDataModule, split: str) -> list[tuple[int, int]]:
    """(number, label) of all images of a split: the numbers are the red of `numbered` images."""
    images, labels, index = data._split(split)  # type: ignore[arg-type]
    return [(int(images[k, 0, 0, 0]), int(labels[k])) for k in index.tolist()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The classes b, numbered from 0 on, and a, numbered from 100 on, three times as many."""
    write_images(tmp_path / "photos" / "b", range(10))
    write_images(tmp_path / "photos" / "a", range(100, 130))
    return tmp_path / "photos"


# Forms of the folder


def test_a_sub_folder_is_a_class_and_parts_are_held_out_in_equal_shares(folder: Path):
    data = ready(folder, val_size=4, test_size=0.2)
    assert data.classes == ("a", "b") and data.num_classes == 2 and data.image_shape == (3, *SIZE)
    parts = {split: numbers(data, split) for split in ("train", "val", "test")}
    assert [sorted(label for _, label in part).count(1) for part in parts.values()] == [7, 1, 2]
    assert [len(part) for part in parts.values()] == [28, 4, 8]
    expected = [(number, 1) for number in range(10)] + [(number, 0) for number in range(100, 130)]
    assert sorted(pair for part in parts.values() for pair in part) == expected
    other = ready(folder, val_size=4, test_size=0.2, seed=5)
    assert numbers(other, "test") == parts["test"] and numbers(other, "val") != parts["val"]
    images, labels = next(iter(data.test_dataloader()))
    shown = (255 * images).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert all(np.array_equal(image, numbered(n)) for image, (n, _) in zip(shown, parts["test"], strict=True))
    assert labels.tolist() == [label for _, label in parts["test"]]


@pytest.mark.parametrize("classes", [("cat", "dog"), ("",)])
@pytest.mark.parametrize(("val", "test"), [("val", "test"), ("valid", None), (None, "test"), (None, None)])
def test_folders_of_parts_are_taken_as_they_are(tmp_path: Path, classes: tuple[str, ...], val, test):
    sizes = {"train": 8, **({val: 4} if val else {}), **({test: 2} if test else {})}
    for first, (part, size) in enumerate(sizes.items()):
        for label, name in enumerate(classes):
            write_images(
                tmp_path / "photos" / part / name, range(100 * label + 20 * first, 100 * label + 20 * first + size)
            )
    (tmp_path / "photos" / "notes").mkdir()
    data = ready(tmp_path / "photos", val_size=0.25, test_size=0.25)
    assert data.classes == (classes if len(classes) == 2 else ("image",))
    where = {split: {number % 100 // 20 for number, _ in numbers(data, split)} for split in ("train", "val", "test")}
    order = list(sizes)
    assert where == {"train": {0}, "val": {order.index(val) if val else 0}, "test": {order.index(test) if test else 0}}
    assert sum(len(numbers(data, split)) for split in where) == len(classes) * sum(sizes.values())


def test_a_folder_of_images_is_one_class_and_what_lies_below_a_class_belongs_to_it(folder: Path):
    assert ready(folder / "a", cache=None).classes == ("image",)
    (folder / "a").rename(folder / "b" / "more")
    write_images(folder / "c", range(200, 204))
    (folder / "link").symlink_to(folder / "c")
    data = ready(folder, cache=None)
    labels = [label for split in ("train", "val", "test") for _, label in numbers(data, split)]
    assert data.classes == ("b", "c", "link") and [labels.count(label) for label in range(3)] == [40, 4, 4]


# Options


def test_a_random_window_is_cut_in_training_and_the_middle_elsewhere(tmp_path: Path):
    rows, columns = np.mgrid[:10, :12]
    pixels = np.stack([10 * rows, 10 * columns, 0 * rows], axis=2).astype(np.uint8)
    for name in ("train", "val", "test"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(40 if name == "train" else 2):
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{k}.png")
    data = ready(tmp_path / "photos", random_crop=4, batch_size=40)
    for split in ("val", "test"):
        assert np.array_equal((255 * data.examples(split, 1)[0][0]).round().permute(1, 2, 0).numpy(), pixels[2:8, 2:10])
    loader = data.train_dataloader()
    corners = []
    for epoch in (0, 0, 1):
        loader.set_epoch(epoch)
        images = (255 * next(iter(loader))[0]).round().long()
        assert images.shape == (40, 3, *SIZE)
        assert (images[:, 0].diff(dim=1) == 10).all() and (images[:, 1].diff(dim=2) == 10).all()
        corners.append(images[:, :2, 0, 0] // 10)
    assert set(corners[0].flatten().tolist()) == {0, 1, 2, 3, 4}
    assert torch.equal(corners[0], corners[1]) and not torch.equal(corners[0], corners[2])


def test_how_an_image_of_another_shape_gets_the_size(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    for mode, box, inside in (("stretch", (10, 10), np.s_[:, :]), ("pad", (10, 5), np.s_[2:7, :])):
        expected = np.full((10, 10, 3), (255, 128, 0), np.uint8)
        expected[inside] = np.asarray(Image.fromarray(pixels).resize(box, Image.Resampling.BICUBIC))
        read = ImageReader(resize=mode, background="#ff8000").read(tmp_path / "wide.png", (10, 10))  # type: ignore[arg-type]
        assert np.array_equal(read, expected), mode
    grey = ImageReader(grayscale=True, resize="pad", background="black").read(tmp_path / "wide.png", (10, 10))
    assert grey.shape == (10, 10, 1) and not grey[:2].any() and not grey[7:].any() and grey[2:7].any()


@pytest.mark.parametrize(
    ("mode", "color", "suffix", "expected"),
    [
        ("RGBA", (0, 100, 255, 51), ".png", (0, 20, 51)),
        ("RGBA", (10, 20, 30, 0), ".webp", (0, 0, 0)),
        ("LA", (100, 51), ".png", (20, 20, 20)),
        ("CMYK", (0, 0, 0, 255), ".jpg", (0, 0, 0)),
        ("CMYK", (255, 0, 0, 0), ".jpg", (0, 255, 255)),
    ],
)
def test_transparent_pixels_and_print_colours(tmp_path: Path, mode: str, color: tuple, suffix: str, expected: tuple):
    Image.new(mode, (8, 8), color).save(tmp_path / f"image{suffix}")
    made = ImageReader(background="black").read(tmp_path / f"image{suffix}", (8, 8)).astype(int)
    assert np.abs(made - expected).max() <= 1


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_of_an_animation_the_first_frame_is_read_which_is_said_once(tmp_path: Path, suffix: str, capsys):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime")]
    reader = ImageReader()
    for k in range(2):
        frames[0].save(tmp_path / f"{k}{suffix}", save_all=True, append_images=frames[1:], lossless=True)
        assert (reader.read(tmp_path / f"{k}{suffix}") == (255, 0, 0)).all()
    said = capsys.readouterr().err
    assert said == f"{tmp_path / f'0{suffix}'} has several frames, of which the first is read, as in every such file\n"


# The cache


def test_files_are_read_once_for_all_processes_and_again_if_anything_changes(folder: Path, monkeypatch):
    reads: list[int] = []
    read_into = ImageReader.read_into
    monkeypatch.setattr(
        ImageReader,
        "read_into",
        lambda self, x, skip=False: (reads.append(sum(len(p) for p, _ in x)), read_into(self, x, skip))[1],
    )

    def in_a_new_process(**options: object) -> ImageFolderDataModule:
        monkeypatch.setattr("datamodules.cache._KEPT", {})
        return ready(folder, **options)

    first = in_a_new_process()
    assert first.fingerprint == in_a_new_process(seed=4, flip=True, batch_size=2).fingerprint and reads == [40]
    assert isinstance(first.read()["x_train"], np.memmap)
    for options in ({"size": 4}, {"grayscale": True}, {"resize": "stretch"}, {"background": "black"}, {"test_size": 3}):
        in_a_new_process(**options)
    assert reads == 6 * [40] and len([*(folder.parent / "cache").glob("photos-*")]) == 6
    Image.fromarray(numbered(77)).save(folder / "a" / "000.png")
    os.utime(folder / "a" / "000.png", ns=(1, 1))
    changed = in_a_new_process()
    before = changed.fingerprint
    assert 77 in {number for split in ("train", "val", "test") for number, _ in numbers(changed, split)}
    (folder / "a" / "000.png").unlink()
    assert in_a_new_process().fingerprint != before and reads == [40] * 7 + [39]
    assert len([*(folder.parent / "cache").glob("photos-*")]) == 6  # the older ones of the same options are removed
    shutil.rmtree(folder.parent / "cache")
    in_a_new_process(cache=None)
    assert reads[-1] == 39 and not (folder.parent / "cache").exists() and len([*folder.iterdir()]) == 2


@pytest.mark.parametrize("mapped", [False, True])
def test_many_files_are_read_by_processes_as_by_one(mapped: bool, folder: Path, monkeypatch, capfd):
    monkeypatch.setattr("datamodules.image_reader.IMAGES_PER_PROCESS", 4)
    monkeypatch.setattr("datamodules.image_reader._num_cpus", lambda: 2)
    monkeypatch.setattr("datamodules.image_reader.CHUNK", 8)
    paths = sorted((folder / "a").iterdir())
    Image.new("L", (8, 6), 3).save(paths[2], "GIF", save_all=True, append_images=[Image.new("L", (8, 6), 4)])
    paths[20].write_bytes(b"no image")
    made = np.zeros((30, *SIZE, 3), np.uint8)
    if mapped:  # the processes write into the file
        file = np.lib.format.open_memmap(folder.parent / "made.npy", "w+", np.uint8, shape=(30, 3, *SIZE))
        made = file.transpose(0, 2, 3, 1)
    left_out = ImageReader().read_into([(paths, made)], skip_broken=True)
    assert [*left_out] == [20] and left_out[20].startswith(f"{paths[20]} cannot be read as an image")
    others = [k for k in range(30) if k not in (2, 20)]
    assert np.array_equal(made[others], [numbered(100 + k) for k in others]) and (made[2] == 3).all()
    assert capfd.readouterr() == (
        "",
        f"{paths[2]} has several frames, of which the first is read, as in every such file\n",
    )
    with pytest.raises(DataError, match="020.png cannot be read as an image"):
        ImageReader().read_into([(paths, made)])
    monkeypatch.setattr(ImageReader, "__reduce__", lambda self: (os._exit, (7,)))  # as if it were killed
    with pytest.raises(
        DataError, match=r"has ended with status 7, between \S+png and \S+png \(number of files: \d\); look"
    ):
        ImageReader().read_into([(paths, made)])


# What goes wrong


def test_files_that_cannot_be_read_are_left_out_and_listed(folder: Path, capsys):
    for name in ("002", "004", "005", "006"):
        (folder / "a" / f"{name}.png").write_bytes(b"no image")
    Image.new("RGB", (100, 100)).save(folder / "b" / "large.png")
    with pytest.raises(DataError, match=r"cannot be read as an image .* leave out such files with --data.skip_broken"):
        ready(folder)
    data = ready(folder, skip_broken=True, max_pixels=9999)
    kept = sorted(number for split in ("train", "val", "test") for number, _ in numbers(data, split))
    assert kept == [*range(10), 100, 101, 103, *range(107, 130)]
    said = capsys.readouterr().err
    path = next((folder.parent / "cache").glob("photos-*/notes.json"))
    assert said.startswith(f"{folder}: images that cannot be read are left out, 5 of 41: {folder}/a/002.png, ")
    assert said.endswith(f", ...; {path} has all of them with the reasons\n") and said.count("\n") == 1
    left_out = json.loads(path.read_text())["left_out"]
    assert len(left_out) == 5 and "has 100 x 100 pixels, more than 9,999" in left_out[f"{folder}/b/large.png"]
    for file in (folder / "b").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"^no image of the class b in \S+photos can be read; \S+ cannot be read as"):
        ready(folder, skip_broken=True)


def empty_class(folder: Path) -> None:
    (folder / "c").mkdir()


def only(*names: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        shutil.rmtree(folder)
        for name in names:
            write_images(folder / name, range(1))

    return make


def loop(folder: Path) -> None:
    (folder / "a" / "again").symlink_to(folder)


def dead_link(folder: Path) -> None:
    (folder / "c").symlink_to("nothing")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, r"^\S+photos is not a folder; give a folder of images with --data.folder$"),
        (lambda folder: [shutil.rmtree(folder / name) for name in "ab"], r"^\S+photos has no images; put image files"),
        (
            empty_class,
            r"^\S+photos/c is a class without images; put image files there, such as .png or .jpg, or remove",
        ),
        (
            only(""),
            r"has 1 image for training and the test, of which .* left for training; add images$",
        ),
        (
            only("a", "b"),
            r"has 1 image for training and validation, .* add images or give another --data.val_size, such as 0$",
        ),
        (only("a", ""), r"^\S+photos has images beside the folders a; put them into folders of classes, or move the"),
        (
            only("train", "bus"),
            r"^\S+ has bus beside train, so that it is not clear whether train is a class or a part",
        ),
        (only("val/a", "test/a"), r"^\S+ has val, test but no train; put the training images in \S+photos/train$"),
        (only("train/a", "test/b"), r"^\S+test has the class b, but the classes of \S+train are a; give both the same"),
        (only("train", "test/b"), r"^\S+test has the class b, but the classes of \S+train are image; give both the"),
        (only("images/a", "images/b"), r"^\S+photos has no images but a folder; give --data.folder \S+photos/images$"),
        (loop, r"^\S+again\S* is a link to a folder whose images are in \S+ already; remove the link$"),
        (dead_link, r"^\S+photos/c is a link to a file that is not there; repair or remove it$"),
    ],
)
def test_folders_that_cannot_be_used_are_refused_in_one_line(folder: Path, damage: Callable, message: str):
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        ready(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": "fit"}, "data.resize is fit; it is one of crop, pad, stretch"),
        ({"background": "bleu"}, "data.background is bleu; give a colour such as black or '#ff8000'"),
        ({"random_crop": -1}, "data.random_crop is -1; it must be at least 0"),
        (
            {"cache": "somewhere/cache"},
            "data.cache is somewhere/cache, inside data.folder; give a folder outside of it",
        ),
        ({"size": 0}, "data.size is 0"),
        ({"test_size": 0}, "data.test_size is 0"),
        ({"val_size": 1.5}, "data.val_size is 1.5"),
    ],
)
def test_impossible_options_are_refused_at_once(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ImageFolderDataModule("somewhere", **options)


def test_images_laid_out_as_a_folder_give_the_batches_of_the_built_in_data(tmp_path: Path):
    labels = np.arange(40) // 4
    parts = {part: np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8) for part in ("train", "test")}
    arrays = {f"x_{part}": images for part, images in parts.items()} | {f"y_{part}": labels for part in parts}
    np.savez(tmp_path / "cifar10.npz", **arrays)
    for part, images in parts.items():
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            file = tmp_path / "photos" / part / CIFAR10DataModule.classes[label] / f"{number:02d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
    options = {"val_size": 0, "seed": 5, "batch_size": 8, "shift": 4}
    built_in = CIFAR10DataModule(str(tmp_path), **options)
    laid_out = ready(tmp_path / "photos", size=32, **options)
    built_in.setup()
    pair = (built_in.train_dataloader(), laid_out.train_dataloader())
    for epoch in (0, 1):
        for loader in pair:
            loader.set_epoch(epoch)
        for (images, classes), (same, same_classes) in zip(*pair, strict=True):
            assert torch.equal(images, same) and torch.equal(classes, same_classes)


def test_a_model_is_trained_by_the_command_line(folder: Path, tmp_path: Path):
    result = train.main(
        [
            *("fit", "--model=Classifier", "--data=ImageFolderDataModule", f"--data.folder={folder}", "--data.size=8"),
            *(f"--data.cache={tmp_path / 'cache'}", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"),
            *("--run.pictures=false", f"--run.root={tmp_path / 'runs'}"),
        ]
    )
    assert 0 <= result.metrics["test/accuracy"] <= 1
