from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

SSIM_WINDOW = 11
"""Pixels on each side of the window, below which an image has no structural similarity."""


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Structural similarity of each image to its reference, N, at most 1: torchmetrics', as of Wang et al. 2004.

    doi 10.1109/TIP.2003.819861, with K1 = 0.01 and K2 = 0.03, in a Gaussian window of 11 x 11 pixels whose standard
    deviation is 1.5, around each pixel, images mirrored at their edges; the mean over pixels and channels.

    Args:
        images, references: N x C x H x W in [0, 1], H and W at least 11.

    Raises:
        ValueError: images are smaller than the window.
    """
    if min(images.shape[-2:]) < SSIM_WINDOW:
        size = " x ".join(map(str, images.shape[-2:]))
        raise ValueError(
            f"structural similarity needs images of at least {SSIM_WINDOW} pixels on each side, not {size}"
        )
    found = structural_similarity_index_measure(images.float(), references.float(), data_range=1.0, reduction="none")
    assert isinstance(found, Tensor)
    return found
