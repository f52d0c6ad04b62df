import colorsys
from pathlib import Path

import pytest
import torch
from scipy import stats

from datamodules import REFERENCE_HUES, ColoredMNISTDataModule, MNISTDataModule
from datamodules.colored_mnist import hue_to_rgb


def test_colours_are_those_of_pythons_own_conversion():
    expected = [colorsys.hsv_to_rgb(hue / 360, 1, 1) for hue in range(360)]
    torch.testing.assert_close(hue_to_rgb(torch.arange(360)), torch.tensor(expected))


def test_an_image_is_the_grey_one_times_its_colour(data_root: Path):
    options = {"root": str(data_root), "val_size": 50, "seed": 0}
    grey, digits = MNISTDataModule(**options).examples("test", 100)
    images, labels = ColoredMNISTDataModule(**options).examples("test", 100)
    assert torch.equal(labels[:, 0], digits)
    for image, plain, (_, hue) in zip(images, grey, labels.tolist(), strict=True):
        colour = torch.tensor(colorsys.hsv_to_rgb(hue / 360, 1, 1))
        torch.testing.assert_close(image, plain * colour[:, None, None])


def test_hues_are_whole_degrees_all_round_and_tell_nothing_of_the_digit():
    """Each p-value is above 1e-6 but once in a million seeds; the seed is fixed."""
    data = ColoredMNISTDataModule(seed=0)
    n = 36_000
    digits = torch.arange(n) % 10
    _, labels = data.batch_transform("train")(torch.zeros(n, 1, 1, 1), digits, torch.arange(n), 0)
    hues = labels[:, 1]
    assert labels.dtype == torch.int64 and hues.min() == 0 and hues.max() == 359
    assert stats.chisquare(hues.bincount().numpy()).pvalue > 1e-6
    table = torch.stack([(hues[digits == digit] // 36).bincount() for digit in range(10)])
    assert stats.chi2_contingency(table.numpy()).pvalue > 1e-6


def test_the_reference_hues_are_ten_as_far_apart_as_can_be():
    assert list(REFERENCE_HUES.values()) == list(range(0, 360, 36)) and REFERENCE_HUES["red"] == 0


@pytest.mark.parametrize(("hue", "rgb"), [(0, (1, 0, 0)), (120, (0, 1, 0)), (240, (0, 0, 1)), (180, (0, 1, 1))])
def test_primary_colours(hue: int, rgb: tuple[float, ...]):
    assert hue_to_rgb(torch.tensor([hue]))[0].tolist() == list(rgb)


def test_each_column_of_the_labels_has_a_name(data_root: Path):
    data = ColoredMNISTDataModule(str(data_root), val_size=50)
    assert data.label_columns == ("digit", "hue") and data.examples("test", 3)[1].shape == (3, 2)
