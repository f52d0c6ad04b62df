import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from genlab.metrics import ssim


def by_the_formula(x: np.ndarray, y: np.ndarray) -> float:
    """Of one channel: the index of each pixel's window, 11 x 11, and its mean."""

    def mean(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, sigma=1.5, truncate=3.5, mode="mirror")

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(index.mean())


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (1, 11)])
def test_ssim_equals_the_formula(channels: int, size: int):
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.rand(2, 4, channels, size, size, generator=generator)
    y = (0.7 * x + 0.3 * noise).clamp(0, 1)
    pairs = zip(x.double().numpy(), y.double().numpy(), strict=True)
    expected = [np.mean([by_the_formula(a, b) for a, b in zip(*images, strict=True)]) for images in pairs]
    np.testing.assert_allclose(ssim(x, y).numpy(), expected, rtol=1e-4)
    assert ssim(x, x).tolist() == pytest.approx([1.0] * 4)


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="images are 28 x 10 pixels; structural similarity needs at least 11"):
        ssim(torch.rand(1, 1, 28, 10), torch.rand(1, 1, 28, 10))
