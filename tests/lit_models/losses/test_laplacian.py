"""The Laplacian pyramid against its definition by scipy's convolutions."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from torch.nn import functional as F

from lit_models.losses.laplacian import laplacian_l1, laplacian_pyramid

TAPS = np.array([1, 4, 6, 4, 1]) / 16


def smoothed(image: np.ndarray) -> np.ndarray:
    """Smooths with mirroring at the centres of the outermost pixels (scipy's mode `mirror`)."""
    for axis in (0, 1):
        image = correlate1d(image, TAPS, axis=axis, mode="mirror")
    return image


def enlarged(small: np.ndarray, height: int, width: int) -> np.ndarray:
    apart = np.zeros((height, width))
    apart[::2, ::2] = 4 * small
    return smoothed(apart)


def reference_pyramid(image: np.ndarray) -> list[np.ndarray]:
    levels = []
    while min(image.shape) > 6:
        small = smoothed(image)[::2, ::2]
        levels.append(image - enlarged(small, *image.shape))
        image = small
    return [*levels, image]


@pytest.mark.parametrize(("size", "levels"), [((28, 28), 4), ((32, 32), 4), ((9, 13), 2), ((6, 20), 1), ((3, 2), 1)])
def test_a_pyramid_equals_scipys_and_sums_up_to_the_image(size: tuple[int, int], levels: int):
    images = torch.rand(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = laplacian_pyramid(images)
    assert len(found) == levels and min(found[-1].shape[-2:]) >= min(4, *size)
    for n in range(2):
        for c in range(3):
            expected = reference_pyramid(images[n, c].numpy())
            for level, by_hand in zip(found, expected, strict=True):
                np.testing.assert_allclose(level[n, c].numpy(), by_hand, atol=1e-14)
            back = expected[-1]
            for level in reversed(found[:-1]):
                back = enlarged(back, *level.shape[-2:]) + level[n, c].numpy()
            np.testing.assert_allclose(back, images[n, c].numpy(), atol=1e-14)


def test_a_constant_image_is_in_the_last_level_only():
    *details, rest = laplacian_pyramid(torch.full((1, 1, 28, 28), 0.7))
    assert all(level.abs().max() < 1e-6 for level in details)
    torch.testing.assert_close(rest, torch.full((1, 1, 4, 4), 0.7))


def test_the_loss_equals_the_papers_sum_divided_by_the_pixels():
    """sum_k 4^k |L_k(x) - L_k(y)|_1 / (C H W), where sizes halve evenly: 32, 16, 8, 4."""
    random = torch.Generator().manual_seed(1)
    x, y = (torch.rand(4, 3, 32, 32, dtype=torch.float64, generator=random) for _ in range(2))
    found = laplacian_l1(x, y)
    for n in range(4):
        total = 0.0
        for c in range(3):
            pairs = zip(*(reference_pyramid(image[n, c].numpy()) for image in (x, y)), strict=True)
            total += sum(4**k * np.abs(a - b).sum() for k, (a, b) in enumerate(pairs))
        assert found[n].item() == pytest.approx(total / (3 * 32 * 32), rel=1e-12)
    assert torch.equal(laplacian_l1(x, x), torch.zeros(4, dtype=torch.float64))


def test_coarse_differences_count_more_than_fine_ones():
    """Of two changes with the same mean absolute difference, one from pixel to pixel and one from half to half."""
    fine = torch.ones(1, 1, 28, 28)
    fine[..., 1::2] = -1
    coarse = torch.ones(1, 1, 28, 28)
    coarse[..., 14:] = -1
    zero = torch.zeros(1, 1, 28, 28)
    assert laplacian_l1(coarse, zero) > laplacian_l1(fine, zero)
    torch.testing.assert_close(F.l1_loss(coarse, zero), F.l1_loss(fine, zero))


def test_the_loss_is_in_single_precision_and_differentiable_after_inference_mode():
    x = torch.rand(2, 1, 22, 26)  # sizes that no other test has asked for
    with torch.inference_mode():
        laplacian_l1(x, torch.rand(2, 1, 22, 26))
    y = torch.rand(2, 1, 22, 26, requires_grad=True)
    whole = laplacian_l1(y, x)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = laplacian_l1(y, x)
    assert torch.equal(mixed, whole)
    whole.sum().backward()
    assert y.grad is not None and y.grad.abs().sum() > 0
