from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

SSIM_WINDOW = 11
"""Side of the window in pixels; smaller images have no structural similarity."""


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Returns the structural similarity of each image to its reference: N, at most 1, higher is better.

    Wang et al. 2004, doi 10.1109/TIP.2003.819861, computed by torchmetrics with K1 = 0.01 and K2 = 0.03 in a Gaussian
    window of 11 x 11 pixels with standard deviation 1.5; images are mirrored at their edges, and the result is the mean
    over pixels and channels.

    Args:
        images: N x C x H x W in [0, 1], H and W at least 11.
        references: Images of the same shape.

    Raises:
        ValueError: The images are smaller than the window.

    Examples:
        >>> import torch
        >>> images = torch.rand(2, 1, 16, 16)
        >>> ssim(images, images)
        tensor([1., 1.])
    """
    if min(images.shape[-2:]) < SSIM_WINDOW:
        size = " x ".join(map(str, images.shape[-2:]))
        raise ValueError(f"images are {size} pixels; structural similarity needs at least {SSIM_WINDOW} on each side")
    found = structural_similarity_index_measure(images.float(), references.float(), data_range=1.0, reduction="none")
    assert isinstance(found, Tensor)
    return found
