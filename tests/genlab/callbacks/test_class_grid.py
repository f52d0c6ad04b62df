from pathlib import Path

import numpy as np
import pytest
import torch

from genlab.callbacks.class_grid import ClassGrid
from genlab.latents import class_block, with_class, with_every_class
from genlab.media import image_grid
from genlab.random_state import isolated_rng
from lit_models import ACGAN, GAN, VAE, ConditionalGAN
from lit_models.common.capabilities import LatentBlock
from lit_models.common.discriminators import MLPDiscriminator
from lit_models.common.generators import MLPGenerator
from lit_models.common.latent_distributions import GumbelSoftmax
from tests.genlab.callbacks.generators import ClassGenerator, Generator, after_test
from tests.genlab.callbacks.toys import contains, picture


def shades(codes: torch.Tensor) -> torch.Tensor:
    """Red tells the noise, green the class."""
    green = codes[:, 2:] @ torch.tensor([[0.1], [0.5], [0.9]])
    return torch.cat([codes[:, :1].sigmoid(), green, torch.zeros(len(codes), 1)], dim=1)


def test_each_code_takes_every_class():
    part = LatentBlock("categorical", 1, 3, 2)
    codes = torch.tensor([[5.0, 0, 1], [6.0, 1, 0]])
    assert with_class(codes, part, torch.tensor([0, 0])).tolist() == [[5, 1, 0], [6, 1, 0]]
    assert with_every_class(codes, part).tolist() == [[5, 1, 0], [5, 0, 1], [6, 1, 0], [6, 0, 1]]
    assert codes[0].tolist() == [5, 0, 1]


def test_models_that_can_be_asked_for_a_class():
    small = {"generator": MLPGenerator((8,)), "discriminator": MLPDiscriminator((8,))}
    for model in (ConditionalGAN(4, num_classes=3, **small), ACGAN(4, num_classes=3, **small)):
        assert class_block(model) == LatentBlock("categorical", 4, 7, 3)
    for other in (GAN(4, **small), VAE(3, law=GumbelSoftmax(3))):
        assert class_block(other) is None


def test_one_noise_a_row_and_one_class_a_column(tmp_path: Path):
    model = ClassGenerator(2, 3, shades)
    state = torch.get_rng_state()
    ClassGrid(rows=4).on_test_end(after_test(tmp_path), model)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), state)
    with isolated_rng():
        red = model.sample_prior(4)[:, 0].sigmoid()
    tiles = torch.stack([red.repeat_interleave(3), torch.tensor([0.1, 0.5, 0.9]).repeat(4), torch.zeros(12)], dim=1)
    expected = image_grid(tiles[:, :, None, None].expand(-1, -1, 4, 4), 3)
    assert contains(picture(tmp_path, "class_grid.png"), np.asarray(expected))


@pytest.mark.parametrize("rows", [0, 4])
def test_no_class_grid_without_classes(rows: int, tmp_path: Path):
    model = Generator(2, shades) if rows else ClassGenerator(2, 3, shades)
    ClassGrid(rows).on_test_end(after_test(tmp_path), model)  # type: ignore[arg-type]
    assert not (tmp_path / "media").exists()


def test_classes_that_the_data_do_not_name_have_numbers(tmp_path: Path):
    ClassGrid().on_test_end(after_test(tmp_path, classes=("a",)), ClassGenerator(2, 3, shades))  # type: ignore[arg-type]
    assert picture(tmp_path, "class_grid.png").size
