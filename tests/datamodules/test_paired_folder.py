import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import train
from datamodules import DataError, PairedFolderDataModule
from datamodules.image_reader import ImageReader
from tests.datamodules.images import HEIGHT, WIDTH, numbered, write_images

SIZE = (HEIGHT, WIDTH)


def read_image(path: Path, size: tuple[int, int], grayscale: bool = False) -> np.ndarray:
    return ImageReader(grayscale).read(path, size)


def ready(folder: Path, **options: object) -> PairedFolderDataModule:
    data = PairedFolderDataModule(str(folder), **{"size": SIZE, "seed": 3, "batch_size": 4, **options})  # type: ignore[arg-type]
    data.prepare_data()
    data.setup()
    return data


def numbers(images: torch.Tensor) -> list[int]:
    """What is written in the red of `numbered` images."""
    red = (255 * images[:, 0]).round().long().flatten(1)
    assert (red == red[:, :1]).all()
    return red[:, 0].tolist()


def epoch(data: PairedFolderDataModule, number: int = 0, split: str = "train") -> list[tuple[int, int]]:
    """(source, target) of a whole pass, by number."""
    loader = getattr(data, f"{split}_dataloader")()
    loader.set_epoch(number)
    return [pair for batch in loader for pair in zip(*map(numbers, batch), strict=True)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 images in A, numbered from 0 on, and the same names in B, numbered from 100 on."""
    write_images(tmp_path / "A", range(20))
    write_images(tmp_path / "B", range(100, 120))
    return tmp_path


# Layouts


def test_without_test_folders_a_share_is_held_out_of_each_domain_for_validation_and_test(folder: Path):
    data = ready(folder, batch_size=1)
    parts = [epoch(data, 0, split) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [16, 2, 2]
    for domain in (0, 1):
        assert sorted(pair[domain] - 100 * domain for part in parts for pair in part) == list(range(20))


def test_the_test_images_are_the_same_for_every_seed_and_the_validation_images_are_not(folder: Path):
    a, b = (ready(folder, seed=seed, val_size=5) for seed in (1, 2))
    assert epoch(a, split="test") == epoch(b, split="test")
    assert set(epoch(a, split="val")) != set(epoch(b, split="val"))


@pytest.mark.parametrize("names", ["train/A train/B test/A test/B", "trainA trainB testA testB"])
@pytest.mark.parametrize("layout", ["paired", "unpaired"])
def test_folders_of_training_and_test_images_are_taken_as_they_are(tmp_path: Path, names: str, layout: str):
    for name, first, n in zip(names.split(), (0, 100, 50, 150), (8, 8, 3, 3), strict=True):
        write_images(tmp_path / name, range(first, first + n))
    data = ready(tmp_path, layout=layout, val_size=0, batch_size=1)
    assert [sorted(domain) for domain in zip(*epoch(data), strict=True)] == [[*range(8)], [*range(100, 108)]]
    assert [sorted(domain) for domain in zip(*epoch(data, 0, "test"), strict=True)] == [[50, 51, 52], [150, 151, 152]]
    assert data.val_size == 0 and data.val_dataloader() == []


def test_sizes_are_shares_below_one_or_numbers(folder: Path):
    data = ready(folder, test_size=3, val_size=0.5, batch_size=1)
    assert [len(epoch(data, 0, split)) for split in ("train", "val", "test")] == [9, 8, 3]
    assert data.val_size == 8


# Pairs


def test_pairs_are_images_of_one_name_whatever_the_suffix(folder: Path):
    for path in list((folder / "B").iterdir())[::2]:
        path.rename(path.with_suffix(".PNG"))
    data = ready(folder, layout="paired")
    for split in ("train", "val", "test"):
        assert all(target == source + 100 for source, target in epoch(data, 0, split))
    source, target, labels = data.pairs("test", 2)
    assert numbers(target) == [number + 100 for number in numbers(source)] and labels is None
    assert data.aligned and data.paired


def test_images_without_a_partner_are_named(folder: Path):
    for name in ("003.png", "007.png", "010.png", "015.png"):
        (folder / "B" / name).unlink()
    with pytest.raises(
        DataError, match=r"\S*A has images without a partner .* in \S*B, 4 of 20: 003, 007, 010, \.\.\.;"
    ):
        ready(folder, layout="paired")
    shutil.rmtree(folder / "A")
    write_images(folder / "A", range(1))
    with pytest.raises(DataError, match=r"\S*B has images without a partner .*, 15 of 16"):
        ready(folder, layout="paired")


def test_two_images_of_one_name_are_refused_where_names_count(folder: Path):
    Image.fromarray(numbered(3)).save(folder / "A" / "003.bmp")
    with pytest.raises(DataError, match=r"\S*A has more than one image named 003; keep one of each name"):
        ready(folder, layout="paired")
    ready(folder, layout="unpaired")


def side_by_side(folder: Path, numbers: range, first_target: int = 100) -> None:
    """Files whose left half is numbered as a source and whose right half as its target."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        pair = np.concatenate([numbered(number), numbered(number + first_target)], axis=1)
        Image.fromarray(pair).save(folder / f"{number:03}.png")


@pytest.mark.parametrize("direction", ["ab", "ba"])
@pytest.mark.parametrize("names", [(), ("train",), ("train", "val"), ("train", "test", "val")])
def test_pairs_side_by_side_in_one_file(tmp_path: Path, names: tuple[str, ...], direction: str):
    """In the folders of pix2pix's data sets; `test` goes before `val`."""
    places = [tmp_path / name for name in names] or [tmp_path]
    for place, numbers in zip(places, (range(20), range(30, 33), range(40, 42)), strict=False):
        side_by_side(place, numbers)
    data = ready(tmp_path, layout="side_by_side", direction=direction, val_size=3, batch_size=1)
    parts = [epoch(data, 0, split) for split in ("train", "val", "test")]
    held_out = 0 if len(names) > 1 else 2
    assert [len(part) for part in parts] == [17 - held_out, 3, 3 if held_out == 0 else 2]
    for source, target in (pair for part in parts for pair in part):
        assert target - source == (100 if direction == "ab" else -100)
    if held_out == 0:
        assert sorted(min(pair) for pair in parts[2]) == [30, 31, 32]
    assert data.aligned and data.paired


def test_an_odd_width_has_no_halves(tmp_path: Path):
    side_by_side(tmp_path, range(3))
    Image.new("RGB", (9, 6)).save(tmp_path / "odd.png")
    with pytest.raises(
        DataError, match=r"odd\.png is 9 pixels wide, so that it has no two halves; repair or remove it"
    ):
        ready(tmp_path, layout="side_by_side", test_size=1, val_size=1)


@pytest.mark.parametrize("layout", ["paired", "unpaired"])
def test_the_direction_says_which_folder_has_the_sources(folder: Path, layout: str):
    there = epoch(ready(folder, layout=layout, batch_size=1, direction="ba"), 0, "test")
    assert all(source >= 100 > target for source, target in there)


# Unpaired


@pytest.mark.parametrize(("sources", "targets"), [(20, 50), (20, 20), (20, 7)])
def test_an_epoch_goes_once_over_a_and_evenly_over_b(tmp_path: Path, sources: int, targets: int):
    write_images(tmp_path / "A", range(sources))
    write_images(tmp_path / "B", range(100, 100 + targets))
    data = ready(tmp_path, test_size=2, val_size=2, batch_size=1)
    left = targets - 4
    epochs = [epoch(data, number) for number in range(30)]
    seen = set()
    for pairs in epochs:
        assert len({source for source, _ in pairs}) == len(pairs) == sources - 4
        times = torch.tensor([target - 100 for _, target in pairs]).bincount(minlength=targets)
        seen |= {target for _, target in pairs}
        assert times.max() <= -(-len(pairs) // left) and (times > 0).sum() == min(left, len(pairs))
    assert len(seen) == left  # of 46 targets one is never drawn with a chance of 46 * 0.65^30, 1e-4
    assert (
        epochs[0] == epoch(ready(tmp_path, test_size=2, val_size=2, batch_size=1))
        and len(set(map(tuple, epochs))) == 30
    )
    assert not data.aligned and not data.paired


def test_fewer_targets_are_repeated_in_new_orders(tmp_path: Path):
    write_images(tmp_path / "A", range(30))
    write_images(tmp_path / "B", range(100, 108))
    data = ready(tmp_path, test_size=2, val_size=0, batch_size=1)
    in_order_of_sources = [target for _, target in sorted(epoch(data))]
    rounds = [in_order_of_sources[start : start + 6] for start in range(0, 24, 6)]
    assert all(len(set(targets)) == 6 for targets in rounds) and len(set(map(tuple, rounds))) == 4


def test_validation_and_test_go_once_over_a_with_targets_that_stay(tmp_path: Path):
    write_images(tmp_path / "A", range(12))
    write_images(tmp_path / "B", range(100, 106))
    data = ready(tmp_path, test_size=0.5, val_size=0.5)
    for split, sources, targets in (("val", 3, 2), ("test", 6, 3)):
        pairs = epoch(data, 0, split)
        assert pairs == epoch(data, 4, split)
        assert [len(set(domain)) for domain in zip(*pairs, strict=True)] == [sources, targets]
        found = data.pairs(split, 100)  # type: ignore[arg-type]
        assert set(zip(numbers(found.source), numbers(found.target), strict=True)) == set(pairs)
        assert found.labels is None


def test_there_may_be_no_validation_images(folder: Path):
    source, target, _ = ready(folder, val_size=0).pairs("val", 3)
    assert len(source) == len(target) == 0


# Flips


@pytest.mark.parametrize("layout", ["paired", "unpaired"])
def test_half_of_the_training_images_are_flipped_and_pairs_together(folder: Path, layout: str):
    data = ready(folder, layout=layout, flip=True, batch_size=1)
    loader, mirrored = data.train_dataloader(), []
    for number in range(40):
        loader.set_epoch(number)
        for batch in loader:
            blue = [images[0, 2] for images in batch]
            ascending = [(row.diff(dim=1) >= 0).all() for row in blue]
            assert all(up or (row.diff(dim=1) <= 0).all() for up, row in zip(ascending, blue, strict=True))
            mirrored.append([not up for up in ascending])
    a, b = torch.tensor(mirrored).unbind(1)
    share = torch.cat([a, b]).float().mean()
    assert abs(share - 0.5) < 0.1  # of 640 tosses for each domain: a chance of 4e-7
    assert torch.equal(a, b) == (layout == "paired")
    for split in ("val", "test"):
        assert (data.pairs(split, 10).source[:, 2].diff(dim=2) >= 0).all()  # type: ignore[arg-type]
    plain = ready(folder, layout=layout, batch_size=1).train_dataloader()
    assert all((images[:, 2].diff(dim=2) >= 0).all() for batch in plain for images in batch)


def test_flips_follow_from_seed_and_epoch(folder: Path):
    def pixels(seed: int, number: int) -> torch.Tensor:
        loader = ready(folder, flip=True, seed=seed).train_dataloader()
        loader.set_epoch(number)
        return torch.cat([images for batch in loader for images in batch])

    assert torch.equal(pixels(1, 2), pixels(1, 2)) and not torch.equal(pixels(1, 2), pixels(1, 3))


# Files


def saved(folder: Path, image: Image.Image, name: str = "image.png", **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize(("size", "box"), [((10, 10), (10, 0, 20, 10)), ((10, 20), (5, 0, 25, 10))])
def test_the_shorter_side_is_resized_and_the_longer_cut_in_the_middle(tmp_path: Path, size, box):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 120, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize((30, 10), Image.Resampling.BICUBIC).crop(box)).astype(int)
    made = read_image(saved(tmp_path, Image.fromarray(pixels)), size)
    assert made.shape == (*size, 3) and made.dtype == np.uint8 and np.abs(made - expected).max() <= 1
    tall = read_image(saved(tmp_path, Image.fromarray(pixels.swapaxes(0, 1))), size[::-1])
    assert np.abs(tall - expected.swapaxes(0, 1)).max() <= 1


def test_an_image_of_the_size_asked_for_keeps_its_pixels(tmp_path: Path):
    assert np.array_equal(read_image(saved(tmp_path, Image.fromarray(numbered(17))), SIZE), numbered(17))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path: Path, orientation: int):
    upright = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    assert np.array_equal(read_image(path, (4, 6), grayscale=True)[:, :, 0], upright)


def with_palette(transparent: bool) -> Image.Image:
    image = Image.new("P", (WIDTH, HEIGHT), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    if transparent:
        image.info["transparency"] = 1
    return image


OF_GREY_16 = Image.fromarray(np.full(SIZE, 40 * 257, np.uint16))
FORMATS: dict[str, tuple[Callable[[], Image.Image], str, tuple[int, int, int]]] = {
    "opaque": (lambda: Image.new("RGBA", SIZE[::-1], (10, 20, 30, 255)), ".png", (10, 20, 30)),
    "clear": (lambda: Image.new("RGBA", SIZE[::-1], (10, 20, 30, 0)), ".png", (255, 255, 255)),
    "half clear": (lambda: Image.new("RGBA", SIZE[::-1], (0, 100, 255, 51)), ".png", (204, 224, 255)),
    "grey and clear": (lambda: Image.new("LA", SIZE[::-1], (10, 0)), ".png", (255, 255, 255)),
    "palette": (lambda: with_palette(False), ".png", (10, 20, 30)),
    "palette, clear": (lambda: with_palette(True), ".png", (255, 255, 255)),
    "gif": (lambda: with_palette(False), ".gif", (10, 20, 30)),
    "grey": (lambda: Image.new("L", SIZE[::-1], 40), ".png", (40, 40, 40)),
    "black and white": (lambda: Image.new("1", SIZE[::-1], 1), ".png", (255, 255, 255)),
    "grey of 16 bits": (lambda: OF_GREY_16, ".png", (40, 40, 40)),
    "grey of 16 bits, tiff": (lambda: OF_GREY_16, ".tiff", (40, 40, 40)),
    "grey of 16 bits, pgm": (lambda: OF_GREY_16, ".pgm", (40, 40, 40)),
    "print colours": (lambda: Image.new("CMYK", SIZE[::-1], (0, 0, 0, 255)), ".tif", (0, 0, 0)),
    "bitmap": (lambda: Image.new("RGB", SIZE[::-1], (10, 20, 30)), ".bmp", (10, 20, 30)),
    "webp": (lambda: Image.new("RGB", SIZE[::-1], (128, 128, 128)), ".webp", (128, 128, 128)),
    "jpeg": (lambda: Image.new("RGB", SIZE[::-1], (128, 128, 128)), ".JPG", (128, 128, 128)),
    "targa": (lambda: Image.new("RGB", SIZE[::-1], (10, 20, 30)), ".tga", (10, 20, 30)),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_usual_kind_of_file_is_read(kind: str, tmp_path: Path):
    make, suffix, color = FORMATS[kind]
    made = read_image(saved(tmp_path, make(), f"image{suffix}"), SIZE)
    assert made.shape == (*SIZE, 3) and (made == color).all()


def test_16_bits_are_rounded_to_8_over_their_whole_range(tmp_path: Path):
    values = np.array([[0, 128, 129, 385, 386, 32768, 65406, 65407, 65535]], np.uint16)
    made = read_image(saved(tmp_path, Image.fromarray(values)), values.shape, grayscale=True)
    assert made[0, :, 0].tolist() == [0, 0, 1, 1, 2, 128, 254, 255, 255]


def test_a_large_photograph_is_shrunk_as_if_all_of_it_was_read(tmp_path: Path):
    ramp = np.linspace(0, 255, 1600).astype(np.uint8)
    photograph = Image.fromarray(np.broadcast_to(ramp[None, :, None], (1200, 1600, 3)).copy())
    made = read_image(saved(tmp_path, photograph, "image.jpg", quality=95), (12, 16))
    expected = ramp.reshape(16, 100).mean(axis=1)
    assert np.abs(made[:, 1:-1].astype(float) - expected[None, 1:-1, None]).max() <= 2


def test_grayscale_has_one_channel(folder: Path):
    data = ready(folder, grayscale=True, layout="paired")
    source, target = next(iter(data.test_dataloader()))
    assert data.image_shape == data.source_shape == (1, *SIZE)
    assert source.shape == target.shape == (2, 1, *SIZE)
    expected = np.asarray(Image.fromarray(numbered(5)).convert("L"))
    assert np.array_equal(read_image(folder / "A" / "005.png", SIZE, grayscale=True)[:, :, 0], expected)


def test_other_files_and_folders_are_ignored(folder: Path):
    (folder / "A" / "Thumbs.db").write_bytes(b"?")
    (folder / "A" / "._000.png").write_bytes(b"?")
    (folder / "A" / "more.png").mkdir()
    assert len(ready(folder)._split_files.train.a) == 18


def test_nothing_is_written_into_the_folder(folder: Path):
    before = sorted(folder.rglob("*"))
    for domain in ("A", "B", "."):
        (folder / domain).chmod(0o555)
    try:
        ready(folder)
    finally:
        for domain in (".", "A", "B"):
            (folder / domain).chmod(0o755)
    assert sorted(folder.rglob("*")) == before


# One copy in the process


def test_runs_share_the_images_and_notice_changed_ones(folder: Path):
    a, b = ready(folder), ready(folder, seed=5, flip=True)
    stored = a._split("train")[0]
    assert stored.data_ptr() == b._split("train")[0].data_ptr() and stored.dtype == torch.uint8
    for options in ({"grayscale": True}, {"size": 4}, {"layout": "paired"}, {"test_size": 3}):
        assert ready(folder, **options)._split("train")[0].shape != stored.shape, options
    path = folder / "A" / "005.png"
    for number, part in ((77, "val"), (78, "train")):
        Image.fromarray(numbered(number)).save(path)
        os.utime(path, ns=(number, number))
        data = ready(folder, test_size=1, val_size=1, batch_size=1)
        shown = [source for split in ("train", "val", "test") for source, _ in epoch(data, 0, split)]
        assert number in shown and 5 not in shown, part
    path.unlink()
    assert len(ready(folder)._split_files.train.a) == 17


# What goes wrong


def empty(folder: Path) -> None:
    shutil.rmtree(folder / "A")
    (folder / "A").mkdir()


def only_one(folder: Path) -> None:
    empty(folder)
    write_images(folder / "A", range(1))


def no_test_b(folder: Path) -> None:
    (folder / "A").rename(folder / "trainA")
    (folder / "B").rename(folder / "trainB")
    write_images(folder / "testA", range(1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, r"^\S+ is not a folder; give one that has images in A and B with --data.folder$"),
        (
            lambda folder: [shutil.rmtree(folder / domain) for domain in "AB"],
            r"^\S+ has no A and B; put images there, or in",
        ),
        (lambda folder: shutil.rmtree(folder / "B"), r"^\S+ has A but no B; put the images of the other domain there$"),
        (lambda folder: shutil.rmtree(folder / "A"), r"^\S+ has B but no A; put the images of the other domain there$"),
        (no_test_b, r"^cannot read \S+testB \(No such file or directory\); check the path and its permissions$"),
        (empty, r"^\S+A has no images; put image files there, such as .png or .jpg$"),
        (only_one, r"^\S+A has 1 image for training and the test, of which 1 would be held out for the test and none"),
    ],
)
def test_folders_that_cannot_be_used_are_refused_in_one_line(folder: Path, damage: Callable, message: str):
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        ready(folder)
    assert "\n" not in str(caught.value)


def test_two_images_are_enough_to_train_on_and_test_without_validation(tmp_path: Path):
    for domain in "AB":
        write_images(tmp_path / domain, range(2))
    assert len(epoch(ready(tmp_path, val_size=0))) == len(epoch(ready(tmp_path, val_size=0), split="test")) == 1
    with pytest.raises(DataError, match=r"of which 1 would be held out for validation .* --data.val_size, such as 0"):
        ready(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"half", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n"]
)
def test_a_file_that_cannot_be_read_is_named(content: bytes, folder: Path):
    path = folder / "B" / "007.tif"
    if content == b"half":
        whole = (folder / "B" / "007.png").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.write_bytes(content)
    (folder / "B" / "007.png").unlink()
    with pytest.raises(DataError, match=rf"^{path} cannot be read as an image \(.+\); repair or remove it$") as caught:
        ready(folder, layout="paired")
    assert "\n" not in str(caught.value)


def test_an_image_too_large_to_be_one_is_refused(folder: Path):
    with pytest.raises(
        DataError, match=r"\d+\.png has 8 x 6 pixels, more than 47; .* give a larger --data.max_pixels$"
    ):
        ready(folder, size=4, max_pixels=47)
    assert len(ready(folder, size=4, max_pixels=48)._split_files.train.a) == 18


def test_more_images_than_the_memory_holds_are_refused_before_they_are_read(folder: Path, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 64, "SC_PHYS_PAGES": 89}[name])
    with pytest.raises(DataError, match=r"40 images of 3 x 6 x 8 take 0 GB, and this machine has 0 GB; give a smaller"):
        ready(folder, seed=71)


@pytest.mark.parametrize("where", ["A", "A/000.png"])
def test_links_that_lead_nowhere_are_named(folder: Path, where: str):
    (folder / where).rename(folder / "elsewhere")
    (folder / where).symlink_to(folder / where)
    with pytest.raises(DataError, match=rf"^{folder / where} is a link in a loop; repair or remove it$"):
        ready(folder)
    (folder / where).unlink()
    (folder / where).symlink_to("nothing")
    with pytest.raises(DataError, match=rf"^{folder / where} is a link to a file that is not there; repair or remove"):
        ready(folder)
    (folder / where).unlink()
    (folder / where).symlink_to(folder / "elsewhere")
    assert len(ready(folder)._split_files.train.a) == 18


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "side by side"}, "data.layout is side by side; it is one of paired, unpaired, side_"),
        ({"direction": "AtoB"}, "data.direction is AtoB; it is one of ab, ba"),
        ({"size": 0}, "data.size is 0"),
        (
            {"size": 100000},
            "data.size is 100000 x 100000 pixels, more than data.max_pixels, 80,000,000; give a smaller",
        ),
        ({"max_pixels": 0}, "data.max_pixels is 0; it must be at least 1"),
        ({"value_range": (5, 5)}, "data.value_range is 5 to 5; give a finite number and a larger one"),
        ({"value_range": (0, float("inf"))}, "data.value_range is 0 to inf"),
        ({"size": (8, 0)}, r"data.size is \(8, 0\)"),
        ({"test_size": 0}, "data.test_size is 0; give a share below 1 or a whole number of images"),
        ({"test_size": 1.5}, "data.test_size is 1.5"),
        ({"test_size": float("inf")}, "data.test_size is inf"),
        ({"test_size": float("nan")}, "data.test_size is nan"),
        ({"val_size": -1}, "data.val_size is -1"),
        ({"batch_size": 0}, "data.batch_size is 0"),
    ],
)
def test_impossible_options_are_refused_at_once(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        PairedFolderDataModule("somewhere", **options)


# Progress bar.


def test_a_progress_bar_is_shown_for_long_reading(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    paths = [*(folder / "A").iterdir()]
    targets = [(paths, np.empty((len(paths), *SIZE, 3), np.uint8))]
    ImageReader().read_into(targets)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    ImageReader().read_into(targets)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr("datamodules.image_reader.SECONDS_BEFORE_PROGRESS_BAR", -1.0)
    ImageReader().read_into(targets)
    written = capfd.readouterr()
    assert written.out == "" and "reading images" in written.err


def test_a_model_is_trained_by_the_command_line(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    result = train.main(
        [
            *("fit", "--model=CycleGAN", "--model.generator=ResNetTranslator", "--model.generator.channels=4"),
            *("--data=PairedFolderDataModule", f"--data.folder={folder}", "--data.size=[16,20]", "--data.batch_size=8"),
            *("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--run.pictures=false"),
            f"--run.root={tmp_path_factory.mktemp('runs')}",
        ]
    )
    assert 0 < result.metrics["test/cycle_l1"] < 1
