import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from genlab.latent_planes import normal_quantiles, plane_grid, principal_axes, principal_plane, project_to_plane


def test_quantiles_divide_the_normal_distribution_equally():
    quantiles = normal_quantiles(4)
    shares = torch.distributions.Normal(0.0, 1.0).cdf(quantiles)
    torch.testing.assert_close(shares, torch.tensor([0.125, 0.375, 0.625, 0.875]))


def test_plane_grid_grows_to_the_right_and_upwards():
    codes = plane_grid(torch.zeros(2), torch.eye(2), torch.tensor([-1.0, 0.0, 2.0])).view(3, 3, 2)
    assert codes[0, 0].tolist() == [-1, 2] and codes[0, 2].tolist() == [2, 2] and codes[2, 0].tolist() == [-1, -1]


def test_principal_plane_has_the_directions_of_largest_variance():
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.1, 3.0, 0.1, 5.0])
    codes = torch.randn(4000, 4, generator=generator) * spread + 7
    centre, directions, names = principal_plane(codes)
    torch.testing.assert_close(centre, torch.full((4,), 7.0), atol=0.3, rtol=0)
    expected = torch.tensor([[0, 0, 0, 5.0], [0, 3.0, 0, 0]])
    torch.testing.assert_close(directions, expected, atol=0.2, rtol=0)
    assert names[0].startswith("principal component 1 (73%)")


def test_principal_components_equal_scikit_learn():
    codes = torch.randn(300, 6, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.arange(6.0, 0, -1))
    points, names = project_to_plane(codes + 5)
    reference = PCA(2).fit(codes.numpy())
    projected = reference.transform(codes.numpy())
    for axis in range(2):
        assert abs(np.corrcoef(points[:, axis], projected[:, axis])[0, 1]) == pytest.approx(1, abs=1e-5)
        assert (
            names[axis]
            == f"principal component {axis + 1} ({reference.explained_variance_ratio_[axis]:.0%} of the variance)"
        )
    assert principal_axes(codes)[1].numpy() == pytest.approx(reference.explained_variance_ratio_, rel=1e-4)


def test_two_dimensional_codes_are_not_projected():
    codes = torch.randn(20, 2)
    points, names = project_to_plane(codes)
    assert torch.equal(points, codes) and names == ("z1", "z2")


def test_codes_are_projected_on_the_components_of_a_basis():
    basis = torch.tensor([[-3.0, 0, 0], [3, 0, 0], [0, 0, 1], [0, 0, -1]])
    points, _ = project_to_plane(torch.tensor([[7.0, 8.0, 9.0]]), basis=basis)
    assert points[0].tolist() == pytest.approx([7, 9])


@pytest.mark.parametrize("shape", [(1, 5), (3, 1)])
def test_a_single_code_and_codes_of_one_number_have_points_in_the_plane(shape: tuple[int, int]):
    codes = torch.arange(3.0).reshape(-1, 1)[: shape[0]].expand(shape)
    points, names = project_to_plane(codes)
    assert points[:, 0].tolist() == pytest.approx((codes[:, 0] - codes[:, 0].mean()).tolist())
    assert points[:, 1].tolist() == [0] * len(codes) and names[1].startswith("principal component 2 (0%")


def test_categorical_codes_have_reproducible_noise():
    codes = torch.eye(4)[torch.arange(200) % 4]
    plain, _ = project_to_plane(codes)
    points, names = project_to_plane(codes, categorical=True)
    moved = (points - plain).std(dim=0) / plain.std(dim=0)
    assert ((moved > 0.015) & (moved < 0.025)).all() and "with noise" in names[0]
    assert torch.equal(points, project_to_plane(codes, categorical=True)[0])
