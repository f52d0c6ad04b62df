from pathlib import Path

import numpy as np
import pytest
import torch

from genlab.callbacks.class_grid import ClassGrid
from genlab.media import image_grid
from genlab.random_state import isolated_rng
from lit_models.common.capabilities import LatentBlock
from tests.genlab.callbacks.toy_generators import ClassGenerator, Generator, after_test
from tests.genlab.callbacks.toy_models import Painter, contains, picture


def shades(codes: torch.Tensor) -> torch.Tensor:
    """Red shows the noise, green the class."""
    green = codes[:, 2:] @ torch.tensor([[0.1], [0.5], [0.9]])
    return torch.cat([codes[:, :1].sigmoid(), green, torch.zeros(len(codes), 1)], dim=1)


def test_rows_are_noises_and_columns_classes(tmp_path: Path):
    model = ClassGenerator(2, 3, shades)
    state = torch.get_rng_state()
    ClassGrid(rows=4).on_test_end(after_test(tmp_path), model)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), state)
    with isolated_rng():
        red = model.sample_prior(4)[:, 0].sigmoid()
    tiles = torch.stack([red.repeat_interleave(3), torch.tensor([0.1, 0.5, 0.9]).repeat(4), torch.zeros(12)], dim=1)
    expected = image_grid(tiles[:, :, None, None].expand(-1, -1, 4, 4), 3)
    assert contains(picture(tmp_path, "class_grid.png"), np.asarray(expected))


def test_a_category_that_is_no_class_has_a_grid_too(tmp_path: Path):
    model = Painter([LatentBlock("continuous", 0, 2), LatentBlock("categorical", 2, 5, 3)], shades)
    ClassGrid().on_test_end(after_test(tmp_path), model)  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "media").iterdir()] == ["category_grid.png"]


@pytest.mark.parametrize("rows", [0, 4])
def test_no_class_grid_without_classes(rows: int, tmp_path: Path):
    model = Generator(2, shades) if rows else ClassGenerator(2, 3, shades)
    ClassGrid(rows).on_test_end(after_test(tmp_path), model)  # type: ignore[arg-type]
    assert not (tmp_path / "media").exists()


def test_classes_without_names_have_numbers(tmp_path: Path):
    ClassGrid().on_test_end(after_test(tmp_path, classes=("a",)), ClassGenerator(2, 3, shades))  # type: ignore[arg-type]
    assert picture(tmp_path, "class_grid.png").size
