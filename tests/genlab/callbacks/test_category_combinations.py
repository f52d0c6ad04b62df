import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from genlab.callbacks import CategoryCombinations
from genlab.callbacks.category_combinations import block_mosaic
from genlab.media import image_grid
from genlab.metrics.color import foreground_hue
from lit_models.common.capabilities import LatentBlock
from tests.genlab.callbacks.toy_models import Painter, contains, picture, trainer

MIXED = [
    LatentBlock("continuous", 0, 2),
    LatentBlock("categorical", 2, 2 + 2 * 3, 3),
    LatentBlock("categorical", 8, 12, 4),
]


def test_the_mosaic_has_a_block_for_each_category_of_the_first_variable():
    sizes = [3, 2, 4]
    tiles = (torch.arange(24) / 24)[:, None, None, None].expand(-1, 1, 5, 5)
    mosaic = block_mosaic(tiles, sizes)[0, 0]
    gap, columns = 2, 2  # three blocks stand two in a row
    for number, (a, b, c) in enumerate(itertools.product(*map(range, sizes))):
        row = (a // columns) * (2 * 5 + 2 * gap) + gap + b * 5 + 2
        column = (a % columns) * (4 * 5 + 2 * gap) + gap + c * 5 + 2
        assert mosaic[row, column] == pytest.approx(number / 24)
    assert (mosaic[2 * 5 + 2 * gap :, 4 * 5 + 2 * gap :] == 1).all()


def test_combinations_are_decoded_once_and_sorted_by_hue(tmp_path: Path):
    blocks = [LatentBlock("continuous", 0, 1), LatentBlock("categorical", 1, 7, 3)]
    hues = F.one_hot(torch.tensor([1, 2, 0, 0, 1, 2, 2, 0, 1]), 3).float()  # green, blue, red, ...
    model = Painter(blocks, lambda codes: hues[3 * codes[:, 1:4].argmax(dim=1) + codes[:, 4:].argmax(dim=1)])
    CategoryCombinations(batch_size=4).on_test_end(trainer(tmp_path, torch.zeros(1, 7)), model)  # type: ignore[arg-type]
    assert model.decoded == [4, 4, 1]
    tiles = hues[:, :, None, None].expand(-1, -1, 4, 4)
    assert contains(picture(tmp_path, "combinations.png"), np.asarray(image_grid(block_mosaic(tiles, [3, 3]), 1, 0, 1)))
    by_hue = tiles[foreground_hue(tiles).argsort()]
    assert contains(picture(tmp_path, "combinations_by_hue.png"), np.asarray(image_grid(by_hue, 3, 0, 1)))
    assert by_hue[0, :, 0, 0].tolist() == [1, 0, 0] and by_hue[8, :, 0, 0].tolist() == [0, 0, 1]


def test_random_combinations_beyond_the_maximum(tmp_path: Path):
    model = Painter([LatentBlock("categorical", 0, 40, 4)], lambda codes: codes[:, :1])  # 4^10
    CategoryCombinations(max_combinations=50, batch_size=20).on_test_end(trainer(tmp_path, torch.zeros(1, 40)), model)  # type: ignore[arg-type]
    assert model.decoded == [20, 20, 10] and picture(tmp_path, "combinations.png").size
    assert not (tmp_path / "media" / "combinations_by_hue.png").exists()
