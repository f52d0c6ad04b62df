from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from genlab.callbacks.filters import Filters, filter_tiles, first_convolution
from genlab.media import image_grid
from lit_models import GAN, Autoencoder, Classifier, ConditionalGAN, LinearAutoencoder
from lit_models.common.discriminators import DCGANDiscriminator, MLPDiscriminator
from lit_models.common.generators import DCGANGenerator
from tests.genlab.callbacks.toy_generators import Generator, after_test
from tests.genlab.callbacks.toy_models import contains, picture

SMALL = {"latent_dim": 4, "generator": DCGANGenerator(4)}


class DiscriminatorModel(Generator):
    """A model whose features come from one convolution."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__(2, None)
        self.convolution = nn.Conv2d(weight.shape[1], len(weight), weight.shape[2])
        self.convolution.weight.data = weight

    def backbone(self) -> nn.Module:
        return nn.Sequential(self.convolution, nn.Flatten())


def test_filters_are_scaled_separately():
    weight = torch.zeros(3, 1, 2, 2)
    weight[0, 0] = torch.tensor([[4.0, -2.0], [0.0, 1.0]])
    weight[1, 0] = torch.tensor([[0.0, -0.1], [0.05, 0.0]])
    tiles, _ = filter_tiles(weight)
    assert tiles[0, 0].flatten().tolist() == pytest.approx([1, 0.25, 0.5, 0.625])
    assert tiles[1, 0].flatten().tolist() == pytest.approx([0.5, 0, 0.75, 0.5])
    assert (tiles[2] == 0.5).all()  # all weights are 0


@pytest.mark.parametrize(("channels", "shape", "across"), [(1, (16, 1), 4), (3, (16, 3), 4), (4, (64, 1), 8)])
def test_three_channels_are_drawn_in_colour_and_others_as_tiles(channels: int, shape: tuple[int, int], across: int):
    weight = torch.randn(16, channels, 5, 5, generator=torch.Generator().manual_seed(0))
    tiles, columns = filter_tiles(weight)
    assert tiles.shape == (*shape, 5, 5) and columns == across
    if channels == 4:  # the channels of a filter are side by side, on one scale
        expected = 0.5 + 0.5 * weight[3, 2] / weight[3].abs().max()
        torch.testing.assert_close(tiles[3 * 4 + 2, 0], expected)


def test_the_picture_shows_the_filters(tmp_path: Path):
    weight = torch.randn(9, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    Filters(max_filters=4).on_test_end(after_test(tmp_path), DiscriminatorModel(weight))  # type: ignore[arg-type]
    tiles = 0.5 + 0.5 * weight[:4] / weight[:4].flatten(1).abs().amax(dim=1)[:, None, None, None]
    assert contains(picture(tmp_path, "filters.png"), np.asarray(image_grid(tiles, 2, 1, 8)))


def test_first_convolution_of_discriminators_encoders_and_classifiers():
    sizes = {
        GAN(**SMALL, discriminator=DCGANDiscriminator(4)): (4, 1, 4, 4),
        GAN(**SMALL, discriminator=DCGANDiscriminator(4, spectral_norm=True), pack=2): (4, 2, 4, 4),
        ConditionalGAN(**SMALL, discriminator=DCGANDiscriminator(4), conditioning="embedding"): (4, 2, 4, 4),
        Autoencoder(3, 1, 2): None,
        Classifier(channels=(4,), feature_dim=4, image_shape=(3, 32, 32)): None,
    }
    for model, shape in sizes.items():
        found = first_convolution(model)
        assert found is not None and shape in (None, tuple(found.weight.shape))


def test_first_convolution_of_a_model_with_two_discriminators():
    """The first of two discriminators is used."""
    model = Generator(2, None)
    model.discriminator = nn.ModuleDict({"a": nn.Sequential(nn.Conv2d(3, 5, 4)), "b": nn.Conv2d(3, 6, 4)})
    assert first_convolution(model) is model.discriminator["a"][0]


def test_no_picture_without_convolutions(tmp_path: Path):
    for model in (GAN(**SMALL, discriminator=MLPDiscriminator((8,))), LinearAutoencoder(3), Generator(2, None)):
        Filters().on_test_end(after_test(tmp_path), model)  # type: ignore[arg-type]
    assert not (tmp_path / "media").exists()
