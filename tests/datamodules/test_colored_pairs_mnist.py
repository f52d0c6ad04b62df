from pathlib import Path

import pytest
import torch
from scipy import ndimage

from datamodules import ColoredPairsMNISTDataModule, MNISTDataModule
from datamodules.base import Split
from datamodules.colored_pairs_mnist import outlines
from datamodules.recolored_mnist import HUES
from genlab.metrics.color import foreground_hue, hue_distance

SPLITS: list[Split] = ["train", "val", "test"]


@pytest.mark.parametrize("split", SPLITS)
def test_grey_digits_become_digits_in_their_hue(split: Split, data_root: Path):
    options = {"root": str(data_root), "val_size": 50, "seed": 0}
    data = ColoredPairsMNISTDataModule(**options)
    source, target, labels = data.pairs(split, 100)
    grey, digits = MNISTDataModule(**options).examples(split, 100)
    assert torch.equal(source, grey) and labels is not None and torch.equal(labels, digits)
    torch.testing.assert_close(target.amax(dim=1), grey[:, 0])
    bright = digits > 2  # others of these images are so dark as to count as black
    assert hue_distance(foreground_hue(target), torch.tensor(HUES)[digits])[bright].max() < 0.01
    assert data.hues == (None, HUES) and data.classified_as == "mnist"


def test_edges_are_the_outlines_of_the_digits(data_root: Path):
    options = {"root": str(data_root), "val_size": 50, "seed": 0}
    data = ColoredPairsMNISTDataModule(**options, source="edges")
    grey, _ = MNISTDataModule(**options).examples("test", 100)
    assert torch.equal(data.pairs("test", 100).source, outlines(grey))
    assert torch.equal(data.pairs("test", 100).target, ColoredPairsMNISTDataModule(**options).pairs("test", 100).target)


def test_outlines_are_scipys_dilation_less_the_shape():
    images = torch.rand(20, 1, 12, 9, generator=torch.Generator().manual_seed(0))
    for image, outline in zip(images[:, 0].numpy(), outlines(images)[:, 0].numpy(), strict=True):
        shape = image > 0.5
        assert ((outline == 1) == (ndimage.binary_dilation(shape) & ~shape)).all()


def test_an_outline_of_a_square_is_one_pixel_wide():
    image = torch.zeros(1, 1, 8, 8)
    image[..., 2:6, 2:6] = 0.9
    assert outlines(image).sum() == 16 and outlines(image).unique().tolist() == [0, 1]


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match="data.source is photo; it is one of grey, edges"):
        ColoredPairsMNISTDataModule(source="photo")  # type: ignore[arg-type]
