from pathlib import Path
from typing import Any

import pytest
import torch

from genlab.callbacks import CategoryMatch
from lit_models.common.capabilities import LatentBlock
from tests.genlab.callbacks.toy_models import Painter, trainer

ONE = [LatentBlock("continuous", 0, 1), LatentBlock("categorical", 1, 4, 3)]
TWO = [LatentBlock("categorical", 0, 4, 2)]


def logged(blocks: list[LatentBlock], folder: Path, learns_labels: bool = False, **options: Any) -> dict[str, float]:
    """What is logged of six images, whose pixels are their codes."""
    categories = torch.eye(3)[[2, 2, 1, 1, 0, 1]]
    running = trainer(folder, torch.cat([torch.rand(6, 1), categories], dim=1), torch.tensor([0, 0, 1, 1, 2, 2]))
    running.datamodule.num_classes = 3
    running.global_rank, running.world_size = 0, 1
    model: Any = Painter(blocks, None)
    found: dict[str, float] = {}
    model.learns_labels = learns_labels
    model.log = lambda name, value: found.update({name: value.item()})
    CategoryMatch(**options).on_test_epoch_end(running, model)
    return found


def test_the_share_of_images_in_the_category_of_their_class(tmp_path: Path):
    assert logged(ONE, tmp_path) == {"test/category_accuracy": pytest.approx(5 / 6)}


def test_nothing_without_exactly_one_category_that_was_learned_without_labels(tmp_path: Path):
    for options in ({"blocks": TWO}, {"blocks": ONE[:1]}, {"blocks": ONE, "learns_labels": True}):
        assert not logged(folder=tmp_path, **options)
    assert not logged(ONE, tmp_path, num_images=0)
