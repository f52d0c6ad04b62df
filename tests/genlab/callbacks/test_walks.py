from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import geometric_slerp

from genlab.callbacks.prior_interpolation import PriorInterpolation
from genlab.latent_paths import closed_paths, linear_path, prior_path, spherical_path
from genlab.media import image_grid
from genlab.random_state import isolated_rng
from lit_models import VAE, Autoencoder
from lit_models.common.latent_distributions import Joint
from lit_models.common.priors import Normal, Uniform
from tests.genlab.callbacks.generators import ClassGenerator, Generator, after_test
from tests.genlab.callbacks.toys import Painter, contains, picture


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("dim", [2, 3, 100])
def test_arcs_are_those_of_scipy(dim: int):
    starts, stops = (codes / codes.norm(dim=1, keepdim=True) for codes in random(2, 5, dim))
    found = spherical_path(starts, stops, torch.linspace(0, 1, 7, dtype=torch.float64))
    for start, stop, arc in zip(starts, stops, found, strict=True):
        np.testing.assert_allclose(arc, geometric_slerp(start, stop, np.linspace(0, 1, 7)), atol=1e-12)


def test_arcs_keep_the_length_of_normal_codes():
    """In 400 dimensions lengths are 20 with a deviation of 0.7: a false alarm is beyond 7 deviations."""
    starts, stops = random(2, 50, 400)
    lengths = spherical_path(starts, stops, torch.linspace(0, 1, 5).double()).norm(dim=2)
    assert (lengths - 20).abs().max() < 5
    assert linear_path(starts, stops, torch.tensor([0.5]).double()).norm(dim=2).max() < 17


def test_codes_in_one_direction_or_in_opposite_ones_are_joined():
    z, shares = random(1, 6).float(), torch.linspace(0, 1, 4)
    for stop in (z, 2 * z, -z):
        torch.testing.assert_close(spherical_path(z, stop, shares), linear_path(z, stop, shares))
    near = z + 1e-4 * random(1, 6).float().roll(1)
    torch.testing.assert_close(spherical_path(z, near, shares), linear_path(z, near, shares), atol=1e-4, rtol=0)


def test_real_numbers_of_a_normal_law_go_along_arcs():
    starts, stops = random(2, 3, 4).float()
    shares = torch.linspace(0, 1, 5)
    arcs = spherical_path(starts, stops, shares)
    for model, expected in (
        (Generator(4, None), arcs),
        (Generator(4, None, Normal()), arcs),
        (Generator(4, None, Uniform()), linear_path(starts, stops, shares)),
        (Autoencoder(4, 1, 2), linear_path(starts, stops, shares)),
    ):
        assert torch.equal(prior_path(model)(starts, stops, shares), expected)


def test_the_other_columns_go_straight():
    model = VAE(2, law=Joint(3))
    starts, stops = model.sample_prior(6).chunk(2)
    shares = torch.linspace(0, 1, 5)
    found, line = prior_path(model)(starts, stops, shares), linear_path(starts, stops, shares)
    [numbers, categories] = model.latent_blocks()
    assert found.shape == line.shape and torch.equal(found[..., categories.start :], line[..., categories.start :])
    assert torch.equal(
        found[..., : numbers.stop], spherical_path(starts[:, : numbers.stop], stops[:, : numbers.stop], shares)
    )


@pytest.mark.parametrize("route", [linear_path, spherical_path])
def test_walks_meet_their_ends_and_round_trips_come_back(route):
    stops = random(3, 5, 2)
    walk = interpolate_codes(stops[0], stops[1], 6, route)
    assert walk.shape == (5, 6, 2) and torch.allclose(walk[:, 0], stops[0]) and torch.allclose(walk[:, -1], stops[1])
    trip = closed_paths(stops, 4, route)
    assert len(trip) == 12 and torch.allclose(trip[::4], stops)
    assert torch.allclose(trip[2], route(stops[0], stops[1], torch.tensor([0.5]).double())[:, 0])
    assert torch.allclose(trip[10], route(stops[2], stops[0], torch.tensor([0.5]).double())[:, 0])


def test_straight_walks_have_equal_steps():
    stops = random(3, 5, 2)
    walk = interpolate_codes(stops[0], stops[1], 6)
    assert torch.allclose(walk.diff(dim=1), ((stops[1] - stops[0]) / 5)[:, None].expand(5, 5, 2))
    trip = closed_paths(stops, 4)
    steps = (trip.roll(-1, dims=0) - trip).unflatten(0, (3, 4))
    assert torch.allclose(steps, steps[:, :1].expand_as(steps))


def test_the_picture_has_a_walk_a_row_each_of_one_class(tmp_path: Path):
    model = ClassGenerator(3, 2, lambda codes: torch.cat([codes[:, :1].sigmoid(), codes[:, 3:]], dim=1))
    PriorInterpolation(walks=3, steps=5).on_test_end(after_test(tmp_path), model)  # type: ignore[arg-type]
    with isolated_rng():
        starts, stops = model.sample_prior(6).chunk(2)
    arcs = spherical_path(starts[:, :3], stops[:, :3], torch.linspace(0, 1, 5))
    first = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(5)  # of the classes 0, 1, 0
    tiles = torch.stack([arcs[..., 0].flatten().sigmoid(), first, 1 - first], dim=1)
    expected = image_grid(tiles[:, :, None, None].expand(-1, -1, 4, 4), 5)
    assert contains(picture(tmp_path, "interpolation_z.png"), np.asarray(expected))


def test_models_that_encode_have_no_walks_of_the_prior(tmp_path: Path):
    model = Painter(Generator(2, None).latent_blocks(), lambda codes: codes[:, :1])
    PriorInterpolation().on_test_end(after_test(tmp_path), model)  # type: ignore[arg-type]
    assert not (tmp_path / "media").exists()
