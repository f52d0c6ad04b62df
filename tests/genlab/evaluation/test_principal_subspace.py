import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.decomposition import PCA

from datamodules import DigitsDataModule
from genlab.evaluation.principal_subspace import largest_principal_angle, mean_and_axes, projection_error


@pytest.mark.parametrize("mixing", [0.0, 1e-6, 1e-2, 1.0])
def test_principal_angle_equals_scipy(mixing: float):
    generator = torch.Generator().manual_seed(0)
    a, noise = torch.randn(2, 3, 10, generator=generator, dtype=torch.float64)
    b = torch.randn(3, 3, generator=generator, dtype=torch.float64) @ a + mixing * noise
    by_scipy = np.degrees(scipy.linalg.subspace_angles(a.numpy().T, b.numpy().T).max())
    assert float(largest_principal_angle(a, b)) == pytest.approx(by_scipy, rel=1e-6, abs=1e-10)


def test_principal_angle_of_orthogonal_subspaces():
    axes = torch.eye(5)
    assert float(largest_principal_angle(axes[:2], axes[2:4])) == pytest.approx(90)
    assert float(largest_principal_angle(axes[:2], axes[1:3])) == pytest.approx(90)  # one of the two is shared


def test_spans_of_different_dimensions_have_the_angles_of_the_smaller_one():
    axes = torch.eye(5)
    assert float(largest_principal_angle(axes[:4], axes[1:3])) == pytest.approx(0)
    assert float(largest_principal_angle(axes[:1], axes[1:3])) == pytest.approx(90)


def test_the_angle_of_vectors_that_are_not_finite_is_nan():
    assert largest_principal_angle(torch.full((2, 5), torch.nan), torch.eye(5)[:2]).isnan()


@pytest.mark.parametrize("count", [700, 50])
def test_axes_and_error_equal_scikit_learn(count: int):
    """Also of fewer images than the 64 pixels."""
    data = DigitsDataModule()
    train, test = data.examples("train", count)[0], data.examples("test", 100)[0]
    mean, axes = mean_and_axes(train, 5, batch_size=64)
    reference = PCA(5, svd_solver="full").fit(train.flatten(1).double().numpy())
    assert mean.numpy() == pytest.approx(reference.mean_, abs=1e-6)
    assert abs(np.diag(axes.numpy() @ reference.components_.T)) == pytest.approx(np.ones(5), abs=1e-6)
    flat = test.flatten(1).double().numpy()
    error = ((flat - reference.inverse_transform(reference.transform(flat))) ** 2).mean()
    assert float(projection_error(test, mean, axes, batch_size=33)) == pytest.approx(error, rel=1e-5)


def test_few_large_images_have_orthonormal_axes_and_no_covariance_of_pixels():
    """The covariance of 40,000 pixels would take 12.8 GB. Two of the nine images are equal."""
    images = torch.rand(9, 1, 200, 200, generator=torch.Generator().manual_seed(0))
    images[8] = images[7]
    mean, axes = mean_and_axes(images, 20)
    assert axes.shape == (8, 40_000)
    torch.testing.assert_close(axes @ axes.T, torch.eye(8, dtype=torch.float64), atol=1e-9, rtol=0)
    assert float(projection_error(images, mean, axes)) < 1e-12
