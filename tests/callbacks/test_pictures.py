import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from callbacks.images import interpolate
from callbacks.latent import correlation_figure, principal_components, scatter_figure
from callbacks.media import image_grid, render
from lit_models import Autoencoder


def test_principal_components_are_scikit_learns():
    codes = torch.randn(300, 6, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.arange(6.0, 0, -1))
    points, shares = principal_components(codes + 5)
    reference = PCA(2).fit(codes.numpy())
    projected = reference.transform(codes.numpy())
    for axis in range(2):
        assert abs(np.corrcoef(points[:, axis], projected[:, axis])[0, 1]) == pytest.approx(1, abs=1e-5)
    assert shares.numpy() == pytest.approx(reference.explained_variance_ratio_, rel=1e-4)


def test_interpolation_is_linear_in_the_code_and_meets_both_ends():
    model = Autoencoder(3, 1, 2).eval()
    ends = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        walk = interpolate(model, ends, 5)
        z0, z1 = model.encode(ends)
        assert torch.allclose(walk[[0, -1]], model.reconstruct(ends), atol=1e-6)
        assert torch.allclose(walk[1:2], model.decode((0.75 * z0 + 0.25 * z1)[None]), atol=1e-6)


def test_image_grid_shows_the_pixels():
    images = torch.stack([torch.full((1, 28, 28), value) for value in (0.0, 0.5, 1.0)])
    grid = np.asarray(image_grid(images, 3))
    assert grid.shape == (64, 184, 3)
    assert [int(grid[30, 30 + 60 * column, 0]) for column in range(3)] == [0, 128, 255]
    assert image_grid(torch.rand(2, 3, 100, 100), 2).width == 206


def test_figures_render_without_a_display():
    figure = scatter_figure(torch.randn(50, 2), torch.tensor([0.6, 0.2]), torch.arange(50) % 10, tuple("0123456789"))
    assert render(figure).size == (600, 540)
    matrix = torch.tensor([[1.0, -0.5], [-0.5, 1.0]])
    title = correlation_figure(matrix).axes[0].get_title()
    assert "off the diagonal 0.500" in title and "with it 0.750" in title and not math.isnan(matrix.sum())
