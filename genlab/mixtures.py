"""Mixtures of Gaussians."""

import warnings
from typing import Any

import numpy as np


def fit_gaussian_mixture(points: np.ndarray, components: int, **options: Any) -> Any:
    """Fits a mixture of Gaussians with full covariances to points, N x d, also if the fit does not converge.

    Args:
        points: The points.
        components: The number of Gaussians.
        options: Further arguments of scikit-learn's `GaussianMixture`, which is returned.
    """
    from sklearn.exceptions import ConvergenceWarning  # takes a second to import
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    mixture = GaussianMixture(components, **options)
    with warnings.catch_warnings(), threadpool_limits(1):  # several threads wait for each other on small matrices
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(points)
