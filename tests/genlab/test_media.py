from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch
from PIL import Image

from genlab.media import framed, full_row, image_grid, join_pictures, write_file, write_files
from genlab.random_state import isolated_rng
from tests.genlab.callbacks.toy_models import contains


def test_image_grid_shows_the_pixels():
    images = torch.stack([torch.full((1, 28, 28), value) for value in (0.0, 0.5, 1.0)])
    grid = np.asarray(image_grid(images, 3))
    assert grid.shape == (64, 184, 3)
    assert [int(grid[30, 30 + 60 * column, 0]) for column in range(3)] == [0, 128, 255]
    assert image_grid(torch.rand(2, 3, 100, 100), 2).width == 206


def test_framed_pictures_keep_their_pixels():
    grid = image_grid(torch.rand(6, 3, 13, 17, generator=torch.Generator().manual_seed(0)), 3)
    whole = framed(grid, "a title " * 20, "x", "y", [(10, "ten")], [(5, "a long label")])
    assert contains(np.asarray(whole), np.asarray(grid))
    bare = framed(grid, "")
    assert whole.height > bare.height and (np.asarray(bare)[:, :10] == 255).all()


def test_ticks_are_at_their_pixels():
    grid = Image.new("RGB", (400, 300), "blue")
    whole = np.asarray(framed(grid, "", xticks=[(100, "I")], yticks=[(200, "-")]))
    blue = np.argwhere((whole == (0, 0, 255)).all(axis=2))
    top, left = blue.min(axis=0)
    below = np.argwhere((whole[top + 300 : top + 302] < 128).all(axis=2))
    assert below[:, 1].mean() == pytest.approx(left + 100, abs=1)
    beside_it = np.argwhere((whole[:, left - 2 : left] < 128).all(axis=2))
    assert beside_it[:, 0].mean() == pytest.approx(top + 200, abs=1)


@pytest.mark.parametrize(("white", "dtype"), [(1, torch.float32), (255, torch.uint8)])
def test_rows_are_filled_with_white(white: int, dtype: torch.dtype):
    images = torch.zeros(2, 3, 4, 5, dtype=dtype)
    row = full_row(images, 6)
    assert row.shape == (6, 3, 4, 5) and row.dtype == dtype
    assert (row[:2] == 0).all() and (row[2:] == white).all()
    assert torch.equal(full_row(images, 2), images)


def test_pictures_are_joined_vertically():
    stacked = np.asarray(
        join_pictures([Image.new("RGB", (4, 3), "red"), Image.new("RGB", (2, 5), "blue")], vertical=True)
    )
    assert stacked.shape == (8, 4, 3)
    assert (
        (stacked[:3] == (255, 0, 0)).all() and (stacked[3:, :2] == (0, 0, 255)).all() and (stacked[3:, 2:] == 255).all()
    )


def test_isolated_rng_is_seeded_and_restores_the_state():
    state = torch.get_rng_state()
    with isolated_rng():
        first = torch.randn(3)
    with isolated_rng():
        assert torch.equal(torch.randn(3), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path):
    write_file(tmp_path / "a.png", lambda file: file.write(b"old"))

    def half(file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_file(tmp_path / "a.png", half)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"old"


def test_all_files_are_written_or_none(tmp_path: Path):
    (tmp_path / "b.csv").mkdir()
    (tmp_path / "c.csv").write_text("old")

    def full(file: IO[bytes]) -> None:
        raise OSError(28, "No space left on device")

    for second, save in (("b.csv", lambda file: file.write(b"new")), ("c.csv", full)):
        with pytest.raises(OSError) as caught:
            write_files({tmp_path / "a.png": lambda file: file.write(b"new"), tmp_path / second: save})
        assert caught.value.filename == str(tmp_path / second)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["b.csv", "c.csv"]
    assert (tmp_path / "c.csv").read_text() == "old"
    write_files({tmp_path / name: lambda file: file.write(b"new") for name in ("a.png", "c.csv")})
    assert (tmp_path / "a.png").read_text() == (tmp_path / "c.csv").read_text() == "new"
