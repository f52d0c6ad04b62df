from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from genlab.callbacks import SampleQuality, SampleTable
from genlab.runs.wandb_run import RunLogger
from tests.genlab.callbacks.toy_generators import ClassGenerator, Generator, after_test

CLASSIFIER = SimpleNamespace(
    per_channel=False,
    to=lambda device: CLASSIFIER,
    probabilities=lambda images: torch.tensor([0.1, 0.7, 0.2]).expand(len(images), 3),
    modes=lambda images: torch.tensor([1, 1, 1, -1])[: len(images)],
)


def columns_of(folder: Path, model: Any, num_images: int, measured: bool) -> dict[str, list[Any]]:
    """The table that a run with black training images logs to W&B; empty for no table."""
    quality, found = SampleQuality(), {}
    quality.evaluation_classifier = CLASSIFIER if measured else None  # type: ignore[assignment]
    trainer = after_test(folder, quality)
    trainer.datamodule.number_of_images = lambda split: 3
    trainer.datamodule.example_batches = lambda split, n, size: [(torch.zeros(3, 1, 4, 4), torch.zeros(3))]
    trainer.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=3))
    logger = RunLogger(folder, "offline", {})
    logger.log_images_table = lambda name, columns, step: found.update(columns)  # type: ignore[method-assign]
    trainer.loggers = [logger]
    SampleTable(num_images).on_test_end(trainer, model)
    return found


def test_a_row_for_each_sample(tmp_path: Path):
    model = ClassGenerator(2, 3, lambda codes: torch.full((len(codes), 1), 0.5))
    model.sample = lambda n, label=None: torch.full((n, 1, 4, 4), 0.25 * label)  # type: ignore[method-assign]
    table = columns_of(tmp_path, model, 4, measured=True)
    assert list(table) == ["image", "class", "predicted", "confidence", "nearest"]
    assert table["class"] == ["a", "a", "b", "c"] and table["predicted"] == ["b", "b", "b", "-1"]
    assert table["confidence"] == pytest.approx([0.7] * 4) and table["nearest"] == pytest.approx([0, 0, 1, 2])
    assert [np.asarray(image)[0, 0, 0] for image in table["image"]] == [0, 0, 64, 128]


@pytest.mark.parametrize(("num_images", "columns"), [(2, ["image", "nearest"]), (0, [])])
def test_columns_that_there_are(num_images: int, columns: list[str], tmp_path: Path):
    model = Generator(2, lambda codes: torch.full((len(codes), 1), 0.5))
    assert list(columns_of(tmp_path, model, num_images, measured=False)) == columns


def test_too_many_rows_are_refused():
    with pytest.raises(ValueError, match=r"sample_table\.num_images is 1001"):
        SampleTable(1001)
