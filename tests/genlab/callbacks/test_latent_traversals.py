from pathlib import Path

import numpy as np
import torch

from genlab.callbacks import LatentTraversals
from genlab.media import image_grid
from lit_models.common.capabilities import LatentBlock
from tests.genlab.callbacks.toy_models import Painter, contains, picture, trainer


def test_the_first_row_is_the_dimension_of_largest_deviation(tmp_path: Path):
    model = Painter([LatentBlock("continuous", 0, 2)], lambda codes: torch.special.ndtr(codes[:, :1] / 2))
    codes = torch.tensor([[0.0, 5.0], [1.0, -5.0], [-1.0, 0.0]])  # the second varies more, only the first is visible
    LatentTraversals(steps=3).on_test_end(trainer(tmp_path, codes), model)  # type: ignore[arg-type]
    low, high = torch.special.ndtr(torch.tensor([-1.0, 1.0]) * 3 * (2 / 3) ** 0.5 / 2)
    values = torch.tensor([0.5, 0.5, 0.5, low, 0.5, high])
    tiles = values[:, None, None, None].expand(-1, 1, 4, 4)
    assert contains(picture(tmp_path, "traversals.png"), np.asarray(image_grid(tiles, 3)))


def test_real_numbers_are_above_categories(tmp_path: Path):
    blocks = [LatentBlock("continuous", 0, 1), LatentBlock("categorical", 1, 4, 3)]
    model = Painter(blocks, lambda codes: codes[:, 1:] @ torch.tensor([[0.2], [0.4], [0.8]]))
    LatentTraversals(steps=3).on_test_end(trainer(tmp_path, torch.tensor([[1.0, 0, 1, 0], [2, 0, 0, 1]])), model)  # type: ignore[arg-type]
    drawn = picture(tmp_path, "traversals.png")
    numbers, categories = (
        np.asarray(image_grid(torch.tensor(row)[:, None, None, None].expand(-1, 1, 4, 4), 3))
        for row in ([0.4, 0.4, 0.4], [0.2, 0.4, 0.8])
    )
    top, bottom = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
    assert contains(top, numbers) and contains(bottom, categories)


def test_dimensions_that_are_equal_in_all_codes_have_no_row(tmp_path: Path):
    blocks = [LatentBlock("continuous", 0, 2), LatentBlock("continuous", 2, 4), LatentBlock("categorical", 4, 6, 2)]
    model = Painter(blocks, lambda codes: codes[:, :1].sigmoid())
    codes = torch.tensor([[0.0, 0, 7, 1, 1, 0], [0, 0, 7, 2, 0, 1]])
    LatentTraversals(steps=3).on_test_end(trainer(tmp_path, codes), model)  # type: ignore[arg-type]
    assert model.decoded == [1 * 3, 2]
