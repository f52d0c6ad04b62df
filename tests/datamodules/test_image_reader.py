"""Images of more than 8 bits. Files of 8 bits are tested with the data module of folders."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules import DataError, ReferenceImagesDataModule
from datamodules.image_reader import ImageReader

STEPS = np.linspace(0, 1, 24).reshape(4, 6)
EXPECTED = np.rint(255 * STEPS)


def write_tiff(path: Path, pixels: np.ndarray) -> Path:
    """Writes a grayscale TIFF of any type of numbers, which Pillow cannot write."""
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    height, width = pixels.shape
    tags = [
        *((256, width), (257, height), (258, 8 * pixels.dtype.itemsize), (259, 1), (262, 1), (273, 8), (277, 1)),
        *((278, height), (279, pixels.nbytes), (339, kind)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + pixels.nbytes) + pixels.tobytes() + directory)
    return path


def write_png(path: Path, pixels: np.ndarray) -> Path:
    """Writes a PNG of 16 bits with any number of channels, H x W x C."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, channels = pixels.shape
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def read(path: Path, value_range: tuple[float, float] | None = None) -> np.ndarray:
    return ImageReader(grayscale=True, value_range=value_range).read(path)[:, :, 0].astype(int)


@pytest.mark.parametrize(
    ("dtype", "white"),
    [("u2", 65535), ("i2", 32767), ("u4", 4294967295), ("i4", 2147483647), ("f4", 1)],
)
def test_the_range_of_a_tiff_is_that_of_its_type(tmp_path: Path, dtype: str, white: float, capsys):
    made = read(write_tiff(tmp_path / "image.tif", (STEPS * white).astype(dtype)))
    assert np.abs(made - EXPECTED).max() <= 1 and made.min() == 0 and made.max() == 255
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", ["u2", "i2", "u4", "i4", "f4"])
def test_the_values_of_black_and_white_may_be_given(tmp_path: Path, dtype: str, capsys):
    path = write_tiff(tmp_path / "image.tif", (100 + STEPS * 3995).astype(dtype))
    assert np.abs(read(path, (100, 4095)) - EXPECTED).max() <= 1
    assert read(path, (2000, 4000)).min() == 0 and read(path, (2000, 4000)).max() == 255
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_small_part_of_the_range_is_said_once(tmp_path: Path, channels: int, capsys):
    """12 bits in 16, also in colour, of which Pillow reads the upper 8 bits."""
    pixels = np.rint(np.broadcast_to(4095 * STEPS[:, :, None], (4, 6, channels))).astype(np.uint16).copy()
    if channels in (2, 4):
        pixels[..., -1] = 65535
    path = write_png(tmp_path / "image.png", pixels)
    reader = ImageReader(grayscale=True)
    assert reader.read(path).max() <= 16 and reader.read(path).max() <= 16
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{path} has the values 0 to " in said and "with --data.value_range" in said
    assert np.abs(read(path, (0, 4095)) - EXPECTED).max() <= (1 if channels == 1 else 17)
    assert capsys.readouterr() == ("", "")


def test_a_black_image_is_no_small_part_of_the_range(tmp_path: Path, capsys):
    assert read(write_tiff(tmp_path / "image.tif", np.zeros((4, 6), "u2"))).max() == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (255 * STEPS.astype("f4"), r"has the values 0 to 255, outside 0 to 1; give .* with --data.value_range$"),
        ((STEPS - 1).astype("f4"), r"has the values -1 to 0, outside 0 to 1; give"),
        ((1000 * STEPS - 500).astype("i2"), r"has the values -500 to 500, outside 0 to 32767; give"),
        (np.full((4, 6), np.nan, "f4"), r"has pixels that are no finite numbers; repair or remove it$"),
    ],
)
def test_values_outside_of_the_range_of_the_type_are_refused(tmp_path: Path, pixels: np.ndarray, message: str):
    with pytest.raises(DataError, match=message):
        read(write_tiff(tmp_path / "image.tif", pixels))


def test_every_reader_has_the_options(tmp_path: Path):
    path = write_tiff(tmp_path / "image.tif", (STEPS * 4095).astype("u2"))
    data = ReferenceImagesDataModule(str(path), size=(4, 6), grayscale=True, value_range=(0, 4095))
    assert np.abs(255 * data.examples("train", 1)[0][0, 0].numpy() - EXPECTED).max() <= 1
    with pytest.raises(DataError, match="has 6 x 4 pixels, more than 23; remove it or give a larger --data.max_pixels"):
        ReferenceImagesDataModule(str(path), size=2, max_pixels=23).setup()


def test_a_file_above_pillows_own_limit_is_judged_by_the_option_alone(tmp_path: Path, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    path = write_tiff(tmp_path / "image.tif", (STEPS * 65535).astype("u2"))
    assert read(path).max() == 255 and not recwarn.list and Image.MAX_IMAGE_PIXELS == 5
