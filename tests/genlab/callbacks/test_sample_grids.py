from pathlib import Path

import numpy as np
import torch

from genlab.callbacks import SampleGrids
from genlab.latents import sample_gaussian_mixture
from genlab.media import image_grid
from genlab.random_state import isolated_rng
from lit_models.common.capabilities import LatentBlock
from tests.genlab.callbacks.toy_models import Painter, contains, picture, trainer

PLAIN = [LatentBlock("continuous", 0, 2)]


def clusters() -> torch.Tensor:
    """900 codes: two thirds around (100, 0) with a correlation of 0.9, one third around (0, 1)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(900, 2, generator=generator)
    noise[:600, 1] = 0.9 * noise[:600, 0] + 0.19**0.5 * noise[:600, 1]
    centres = torch.tensor([[100.0, 0.0]] * 600 + [[0.0, 1.0]] * 300)
    return centres + noise * torch.tensor([1.0, 0.01])


def test_pictures_show_samples_of_the_prior_and_the_mixture(tmp_path: Path):
    model = Painter(PLAIN, lambda codes: codes[:, :1].sigmoid())
    state = torch.get_rng_state()
    SampleGrids(num_images=4, components=2).on_test_end(trainer(tmp_path, clusters()), model)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), state)
    with isolated_rng():
        expected = model.sample(4)
    assert contains(picture(tmp_path, "samples.png"), np.asarray(image_grid(expected, 2)))
    from_mixture = model.decode(sample_gaussian_mixture(clusters(), PLAIN, 2, 4))
    assert contains(picture(tmp_path, "samples_mixture.png"), np.asarray(image_grid(from_mixture, 2)))


def test_no_mixture_for_categorical_codes(tmp_path: Path):
    model = Painter([LatentBlock("categorical", 0, 2, 2)], lambda codes: codes[:, :1].sigmoid())
    SampleGrids(num_images=4).on_test_end(trainer(tmp_path, torch.eye(2).repeat(20, 1)), model)  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "media").iterdir()] == ["samples.png"]


def test_no_mixture_for_wide_codes(tmp_path: Path):
    model = Painter(PLAIN, lambda codes: codes[:, :1].sigmoid())
    SampleGrids(num_images=4, max_width=1).on_test_end(trainer(tmp_path, clusters()), model)  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "media").iterdir()] == ["samples.png"]


def test_few_codes_have_few_components(tmp_path: Path):
    model = Painter(PLAIN, lambda codes: codes[:, :1].sigmoid())
    SampleGrids(num_images=4).on_test_end(trainer(tmp_path, clusters()[:3]), model)  # type: ignore[arg-type]
    assert (tmp_path / "media" / "samples_mixture.png").is_file()
