import numpy as np
import pytest
import torch
from scipy.spatial import geometric_slerp

from genlab.latent_paths import (
    closed_paths,
    interpolate_codes,
    linear_path,
    prior_path,
    spherical_path,
    traverse_categories,
    traverse_dimensions,
)
from lit_models import VAE, Autoencoder
from lit_models.common.capabilities import LatentBlock
from lit_models.common.latent_distributions import Joint
from lit_models.common.priors import Normal, Uniform
from tests.genlab.callbacks.toy_generators import Generator


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("dim", [2, 3, 100])
def test_spherical_path_equals_scipy(dim: int):
    starts, ends = (codes / codes.norm(dim=1, keepdim=True) for codes in random(2, 5, dim))
    found = spherical_path(starts, ends, torch.linspace(0, 1, 7, dtype=torch.float64))
    for start, stop, arc in zip(starts, ends, found, strict=True):
        np.testing.assert_allclose(arc, geometric_slerp(start, stop, np.linspace(0, 1, 7)), atol=1e-12)


def test_spherical_path_keeps_the_norm_of_normal_codes():
    """Norms in 400 dimensions are 20 with a deviation of 0.7: the limit is at 7 deviations."""
    starts, ends = random(2, 50, 400)
    lengths = spherical_path(starts, ends, torch.linspace(0, 1, 5).double()).norm(dim=2)
    assert (lengths - 20).abs().max() < 5
    assert linear_path(starts, ends, torch.tensor([0.5]).double()).norm(dim=2).max() < 17


def test_parallel_codes_are_interpolated_linearly():
    z, shares = random(1, 6).float(), torch.linspace(0, 1, 4)
    for stop in (z, 2 * z, -z):
        torch.testing.assert_close(spherical_path(z, stop, shares), linear_path(z, stop, shares))
    near = z + 1e-4 * random(1, 6).float().roll(1)
    torch.testing.assert_close(spherical_path(z, near, shares), linear_path(z, near, shares), atol=1e-4, rtol=0)


def test_codes_with_a_normal_prior_are_interpolated_spherically():
    starts, ends = random(2, 3, 4).float()
    shares = torch.linspace(0, 1, 5)
    arcs = spherical_path(starts, ends, shares)
    for model, expected in (
        (Generator(4, None), arcs),
        (Generator(4, None, Normal()), arcs),
        (Generator(4, None, Uniform()), linear_path(starts, ends, shares)),
        (Autoencoder(4, 1, 2), linear_path(starts, ends, shares)),
    ):
        assert torch.equal(prior_path(model)(starts, ends, shares), expected)


def test_categorical_columns_are_interpolated_linearly():
    model = VAE(2, latent_distribution=Joint(3))
    starts, ends = model.sample_prior(6).chunk(2)
    shares = torch.linspace(0, 1, 5)
    found, line = prior_path(model)(starts, ends, shares), linear_path(starts, ends, shares)
    [numbers, categories] = model.latent_blocks()
    assert found.shape == line.shape and torch.equal(found[..., categories.start :], line[..., categories.start :])
    assert torch.equal(
        found[..., : numbers.stop], spherical_path(starts[:, : numbers.stop], ends[:, : numbers.stop], shares)
    )


@pytest.mark.parametrize("path", [linear_path, spherical_path])
def test_paths_include_their_ends_and_closed_paths_return(path):
    ends = random(3, 5, 2)
    codes = interpolate_codes(ends[0], ends[1], 6, path)
    assert codes.shape == (5, 6, 2)
    assert torch.allclose(codes[:, 0], ends[0]) and torch.allclose(codes[:, -1], ends[1])
    loop = closed_paths(ends, 4, path)
    assert len(loop) == 12 and torch.allclose(loop[::4], ends)
    assert torch.allclose(loop[2], path(ends[0], ends[1], torch.tensor([0.5]).double())[:, 0])
    assert torch.allclose(loop[10], path(ends[2], ends[0], torch.tensor([0.5]).double())[:, 0])


def test_linear_paths_have_equal_steps():
    ends = random(3, 5, 2)
    codes = interpolate_codes(ends[0], ends[1], 6)
    assert torch.allclose(codes.diff(dim=1), ((ends[1] - ends[0]) / 5)[:, None].expand(5, 5, 2))
    loop = closed_paths(ends, 4)
    steps = (loop.roll(-1, dims=0) - loop).unflatten(0, (3, 4))
    assert torch.allclose(steps, steps[:, :1].expand_as(steps))


def test_traversals_change_one_dimension():
    example, mean, deviation = torch.tensor([9.0, 8.0, 7.0]), torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1, 2])
    traversals = traverse_dimensions(example, mean, deviation, torch.tensor([2, 0]), 3).view(2, 3, 3)
    assert traversals[0].tolist() == [[9, 8, -3], [9, 8, 3], [9, 8, 9]]
    assert traversals[1].tolist() == [[-0.5, 8, 7], [1, 8, 7], [2.5, 8, 7]]


def test_traversals_take_each_category_of_a_variable():
    example = torch.tensor([5.0, 1, 0, 0, 0, 1, 0])
    traversals = traverse_categories(example, LatentBlock("categorical", 1, 7, 3)).view(2, 3, 7)
    assert traversals[0].tolist() == [[5, *one, 0, 1, 0] for one in np.eye(3).tolist()]
    assert traversals[1].tolist() == [[5, 1, 0, 0, *one] for one in np.eye(3).tolist()]
