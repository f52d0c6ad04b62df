from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import (
    CIFAR10DataModule,
    ImageDataModule,
    LowResolutionCIFAR10DataModule,
    LowResolutionMNISTDataModule,
    MNISTDataModule,
)

KINDS = [(LowResolutionMNISTDataModule, MNISTDataModule), (LowResolutionCIFAR10DataModule, CIFAR10DataModule)]


def by_pillow(images: torch.Tensor, size: int) -> torch.Tensor:
    """Each channel of N x C x H x W resized in floats, and clipped."""
    small = [
        np.asarray(Image.fromarray(channel.numpy()).resize((size, size), Image.Resampling.BICUBIC))
        for channel in images.flatten(0, 1)
    ]
    return torch.from_numpy(np.stack(small)).view(*images.shape[:2], size, size).clamp(0, 1)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize(("kind", "plain"), KINDS)
def test_sources_and_their_enlargements_equal_pillows(
    kind: type[LowResolutionMNISTDataModule], plain: type[ImageDataModule], factor: int, data_root: Path
):
    options = {"root": str(data_root), "val_size": 50, "seed": 0}
    data = kind(**options, factor=factor)
    source, target, labels = data.pairs("test", 50)
    images, classes = plain(**options).examples("test", 50)
    assert torch.equal(target, images) and labels is not None and torch.equal(labels, classes)
    channels, side, _ = data.image_shape
    assert data.source_shape == (channels, side // factor, side // factor)
    torch.testing.assert_close(source, by_pillow(images, side // factor), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.baseline(source), by_pillow(source, side), atol=1e-5, rtol=0)


def test_both_are_clipped():
    """A white bar on black overshoots in both directions."""
    image = torch.zeros(1, 1, 28, 28)
    image[..., 8:16] = 1
    data = LowResolutionMNISTDataModule(factor=2)
    source = data.domain_transforms("test")[0](image, torch.zeros(1), torch.zeros(1), 0)
    for images in (source, data.baseline(source)):
        assert images.min() == 0 and images.max() == 1


def test_a_constant_image_stays_constant():
    data = LowResolutionCIFAR10DataModule(factor=4)
    image = torch.full((1, 3, 32, 32), 0.37)
    source = data.domain_transforms("test")[0](image, torch.zeros(1), torch.zeros(1), 0)
    torch.testing.assert_close(source, torch.full((1, 3, 8, 8), 0.37))
    torch.testing.assert_close(data.baseline(source), image)


@pytest.mark.parametrize("factor", [3, 0, -2])
def test_a_factor_that_does_not_divide_the_sides_is_refused(factor: int):
    with pytest.raises(ValueError, match=f"data.factor is {factor}; give one that divides the sides of 32 x 32"):
        LowResolutionCIFAR10DataModule(factor=factor)  # type: ignore[arg-type]
