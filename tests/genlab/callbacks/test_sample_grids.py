from pathlib import Path

import numpy as np
import pytest
import torch

from genlab.callbacks import SampleGrids
from genlab.latents import sample_gaussian_mixture
from genlab.media import image_grid
from genlab.random_state import isolated_rng
from lit_models.common.capabilities import LatentBlock
from tests.genlab.callbacks.toys import Painter, contains, picture, trainer

PLAIN = [LatentBlock("continuous", 0, 2)]


def clusters() -> torch.Tensor:
    """900 codes: two thirds around (100, 0) with a correlation of 0.9, one third around (0, 1)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(900, 2, generator=generator)
    noise[:600, 1] = 0.9 * noise[:600, 0] + 0.19**0.5 * noise[:600, 1]
    centres = torch.tensor([[100.0, 0.0]] * 600 + [[0.0, 1.0]] * 300)
    return centres + noise * torch.tensor([1.0, 0.01])


def test_the_mixture_has_the_clusters_of_the_codes():
    drawn = sample_gaussian_mixture(clusters(), PLAIN, 2, 3000)
    first = drawn[:, 0] > 50
    assert first.float().mean() == pytest.approx(2 / 3, abs=0.03)
    assert drawn[first].mean(dim=0).numpy() == pytest.approx([100, 0], abs=0.1)
    assert drawn[~first].std(dim=0).numpy() == pytest.approx([1, 0.01], rel=0.1)
    assert np.corrcoef(drawn[first].T)[0, 1] == pytest.approx(0.9, abs=0.05)


def test_the_mixture_is_the_same_each_time_and_in_no_order():
    first, second = (sample_gaussian_mixture(clusters(), PLAIN, 2, 60) for _ in range(2))
    assert torch.equal(first, second)
    changes = (first[1:, 0] > 50) != (first[:-1, 0] > 50)
    assert changes.sum() > 10


def test_the_mixture_gives_whole_categories():
    one_hot = torch.eye(3)[torch.arange(300) % 3]
    codes = torch.cat([torch.randn(300, 1, generator=torch.Generator().manual_seed(0)), one_hot], dim=1)
    parts = [LatentBlock("continuous", 0, 1), LatentBlock("categorical", 1, 4, 3)]
    drawn = sample_gaussian_mixture(codes, parts, 3, 90)[:, 1:]
    assert ((drawn == 0) | (drawn == 1)).all() and (drawn.sum(dim=1) == 1).all() and (drawn.sum(dim=0) > 10).all()


def test_a_dead_dimension_stays_where_it_is():
    codes = torch.cat([clusters()[:, :1], torch.full((900, 1), 3.0)], dim=1)
    drawn = sample_gaussian_mixture(codes, PLAIN, 2, 50)
    assert drawn[:, 1].numpy() == pytest.approx(np.full(50, 3.0), abs=1e-3)


def test_samples_are_those_of_the_prior(tmp_path: Path):
    model = Painter(PLAIN, lambda codes: codes[:, :1].sigmoid())
    state = torch.get_rng_state()
    SampleGrids(num_images=4, components=2).on_test_end(trainer(tmp_path, clusters()), model)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), state)
    with isolated_rng():
        expected = model.sample(4)
    assert contains(picture(tmp_path, "samples.png"), np.asarray(image_grid(expected, 2)))
    from_mixture = model.decode(sample_gaussian_mixture(clusters(), PLAIN, 2, 4))
    assert contains(picture(tmp_path, "samples_mixture.png"), np.asarray(image_grid(from_mixture, 2)))


def test_no_mixture_of_categories_alone(tmp_path: Path):
    model = Painter([LatentBlock("categorical", 0, 2, 2)], lambda codes: codes[:, :1].sigmoid())
    SampleGrids(num_images=4).on_test_end(trainer(tmp_path, torch.eye(2).repeat(20, 1)), model)  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "media").iterdir()] == ["samples.png"]


def test_few_codes_have_few_clusters(tmp_path: Path):
    model = Painter(PLAIN, lambda codes: codes[:, :1].sigmoid())
    SampleGrids(num_images=4).on_test_end(trainer(tmp_path, clusters()[:3]), model)  # type: ignore[arg-type]
    assert (tmp_path / "media" / "samples_mixture.png").is_file()
