import math
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from sklearn.decomposition import PCA

from genlab.callbacks import Interpolation
from genlab.callbacks.interpolation import interpolate
from genlab.callbacks.latent_correlation_matrix import correlation_figure
from genlab.callbacks.latent_scatter import LatentScatter
from genlab.figures import scatter_figure
from genlab.latent_planes import principal_axes, project_to_plane
from genlab.media import join_pictures, framed, full_row, image_grid, render, write_file, write_files
from genlab.random_state import isolated_rng
from lit_models import Autoencoder
from lit_models.common.capabilities import LatentBlock
from tests.genlab.callbacks.toys import Painter, contains, picture, trainer


def test_principal_components_are_scikit_learns():
    codes = torch.randn(300, 6, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.arange(6.0, 0, -1))
    points, names = project_to_plane(codes + 5)
    reference = PCA(2).fit(codes.numpy())
    projected = reference.transform(codes.numpy())
    for axis in range(2):
        assert abs(np.corrcoef(points[:, axis], projected[:, axis])[0, 1]) == pytest.approx(1, abs=1e-5)
        assert (
            names[axis]
            == f"principal component {axis + 1} ({reference.explained_variance_ratio_[axis]:.0%} of the variance)"
        )
    assert principal_axes(codes)[1].numpy() == pytest.approx(reference.explained_variance_ratio_, rel=1e-4)


def test_two_dimensional_codes_are_drawn_as_they_are():
    codes = torch.randn(20, 2)
    points, names = project_to_plane(codes)
    assert torch.equal(points, codes) and names == ("z1", "z2")


def test_codes_are_projected_on_the_components_of_others():
    basis = torch.tensor([[-3.0, 0, 0], [3, 0, 0], [0, 0, 1], [0, 0, -1]])
    points, _ = project_to_plane(torch.tensor([[7.0, 8.0, 9.0]]), basis=basis)
    assert points[0].tolist() == pytest.approx([7, 9])


def test_categories_are_drawn_with_a_little_noise_that_is_the_same_each_time():
    codes = torch.eye(4)[torch.arange(200) % 4]
    plain, _ = project_to_plane(codes)
    points, names = project_to_plane(codes, categorical=True)
    moved = (points - plain).std(dim=0) / plain.std(dim=0)
    assert ((moved > 0.015) & (moved < 0.025)).all() and "with noise" in names[0]
    assert torch.equal(points, project_to_plane(codes, categorical=True)[0])


@pytest.mark.parametrize(("angle", "at_120"), [("hue", (0, 1, 0)), ("angle", None)])
def test_angles_have_a_panel_of_their_own(angle: str, at_120: tuple[int, int, int] | None):
    labels = torch.tensor([[0, 0], [1, 120], [2, 240], [0, 360]])
    figure = scatter_figure(torch.randn(4, 2), ("z1", "z2"), labels, ("a", "b", "c"), angle)
    render(figure)
    by_class, by_angle = (axes for axes in figure.axes if axes.get_xlabel() == "z1")
    colours = by_class.collections[0].get_facecolors()
    assert (colours[0] == colours[3]).all() and len({tuple(colour) for colour in colours}) == 3
    colours = by_angle.collections[0].get_facecolors()
    assert (colours[0] == colours[3]).all()  # a full turn
    if at_120 is not None:
        assert colours[1][:3] == pytest.approx(at_120, abs=0.02) and colours[0][:3] == pytest.approx((1, 0, 0))


@pytest.mark.parametrize("column", ["hue", "angle"])
def test_the_second_panel_is_of_what_the_data_say(column: str, tmp_path: Path, monkeypatch):
    """Images of one channel may have a hue in their labels, and those of three an angle."""
    drawn: list[Figure] = []
    monkeypatch.setattr(
        "genlab.callbacks.latent_scatter.save_picture", lambda trainer, name, figure: drawn.append(figure)
    )
    shape = (1, 1, 6) if column == "hue" else (3, 1, 2)
    running = trainer(tmp_path, torch.rand(4, 6), torch.tensor([[0, 5], [1, 0], [2, 90], [1, 2]]))
    images, labels = running.datamodule.examples("test", 4)
    running.datamodule.examples = lambda split, n, seed=0: (images.reshape(-1, *shape), labels)
    running.datamodule.label_columns, running.datamodule.image_shape = ("digit", column), shape
    LatentScatter().on_test_end(running, Painter([LatentBlock("continuous", 0, 6)], None))  # type: ignore[arg-type]
    assert [axes.get_title() for axes in drawn[0].axes[:2]] == ["by class", f"by {column}"]


def test_pictures_of_classes_take_labels_of_two_columns(tmp_path: Path):
    codes = torch.rand(6, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 5], [1, 0], [2, 1], [1, 2], [0, 3], [2, 2]])
    model = Painter([LatentBlock("continuous", 0, 16)], None)
    model.decode = lambda codes: codes[:, None, None, :]  # type: ignore[method-assign]
    Interpolation([(1, 2)], steps=2).on_test_end(trainer(tmp_path, codes, labels), model)  # type: ignore[arg-type]
    strip = codes[[1, 1, 2, 2]][:, None, None, :]  # the first images of these classes, each beside its decoded code
    assert contains(picture(tmp_path, "interpolation.png"), np.asarray(image_grid(strip, 4)))


def test_interpolation_is_linear_in_the_code_and_meets_both_ends():
    model = Autoencoder(3, 1, 2).eval()
    ends = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        walk = interpolate(model, ends, 5)
        z0, z1 = model.encode(ends)
        assert torch.allclose(walk[[0, -1]], model.reconstruct(ends), atol=1e-6)
        assert torch.allclose(walk[1:2], model.decode((0.75 * z0 + 0.25 * z1)[None]), atol=1e-6)


def test_image_grid_shows_the_pixels():
    images = torch.stack([torch.full((1, 28, 28), value) for value in (0.0, 0.5, 1.0)])
    grid = np.asarray(image_grid(images, 3))
    assert grid.shape == (64, 184, 3)
    assert [int(grid[30, 30 + 60 * column, 0]) for column in range(3)] == [0, 128, 255]
    assert image_grid(torch.rand(2, 3, 100, 100), 2).width == 206


def test_a_frame_leaves_every_pixel_as_it_was():
    grid = image_grid(torch.rand(6, 3, 13, 17, generator=torch.Generator().manual_seed(0)), 3)
    whole = framed(grid, "a title " * 20, "x", "y", [(10, "ten")], [(5, "a long label")])
    assert contains(np.asarray(whole), np.asarray(grid))
    bare = framed(grid, "")
    assert whole.height > bare.height and (np.asarray(bare)[:, :10] == 255).all()


def test_ticks_stand_at_their_pixels():
    grid = Image.new("RGB", (400, 300), "blue")
    whole = np.asarray(framed(grid, "", xticks=[(100, "I")], yticks=[(200, "-")]))
    blue = np.argwhere((whole == (0, 0, 255)).all(axis=2))
    top, left = blue.min(axis=0)
    below = np.argwhere((whole[top + 300 : top + 302] < 128).all(axis=2))
    assert below[:, 1].mean() == pytest.approx(left + 100, abs=1)
    beside_it = np.argwhere((whole[:, left - 2 : left] < 128).all(axis=2))
    assert beside_it[:, 0].mean() == pytest.approx(top + 200, abs=1)


@pytest.mark.parametrize(("white", "dtype"), [(1, torch.float32), (255, torch.uint8)])
def test_a_row_is_filled_up_with_white(white: int, dtype: torch.dtype):
    images = torch.zeros(2, 3, 4, 5, dtype=dtype)
    row = full_row(images, 6)
    assert row.shape == (6, 3, 4, 5) and row.dtype == dtype
    assert (row[:2] == 0).all() and (row[2:] == white).all()
    assert torch.equal(full_row(images, 2), images)


def test_pictures_stand_under_one_another():
    stacked = np.asarray(join_pictures([Image.new("RGB", (4, 3), "red"), Image.new("RGB", (2, 5), "blue")], vertical=True))
    assert stacked.shape == (8, 4, 3)
    assert (
        (stacked[:3] == (255, 0, 0)).all() and (stacked[3:, :2] == (0, 0, 255)).all() and (stacked[3:, 2:] == 255).all()
    )


def test_pictures_draw_from_a_stream_of_their_own():
    state = torch.get_rng_state()
    with isolated_rng():
        first = torch.randn(3)
    with isolated_rng():
        assert torch.equal(torch.randn(3), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path: Path):
    write_file(tmp_path / "a.png", lambda file: file.write(b"old"))

    def half(file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_file(tmp_path / "a.png", half)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"old"


def test_files_are_written_together_or_not_at_all(tmp_path: Path):
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


def test_figures_render_without_a_display():
    figure = scatter_figure(torch.randn(50, 2), ("z1", "z2"), torch.arange(50) % 10, tuple("0123456789"))
    assert render(figure).size == (600, 540)
    matrix = torch.tensor([[1.0, -0.5], [-0.5, 1.0]])
    title = correlation_figure(matrix).axes[0].get_title()
    assert "off the diagonal 0.500" in title and "with it 0.750" in title and not math.isnan(matrix.sum())
