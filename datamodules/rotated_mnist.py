import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.base import Split
from datamodules.counter_rng import integers
from datamodules.loader import Batch, BatchTransform
from datamodules.mnist import MNISTDataModule

CENTRE_OF_MASS = (0.5, 0.5)
"""Centre of mass of MNIST's digits, in pixels right of and below the centre of the image."""


class RotatedMNISTDataModule(MNISTDataModule):
    """MNIST with each digit rotated by a random angle of 0, 1, ..., 359 degrees, redrawn in each epoch; 1 x 28 x 28.

    The rotation is counter-clockwise about the digit's own centre of mass, which lies half a pixel from the centre of
    the image: a rotation about the centre of the image would reveal the angle by that half pixel. The angle depends on
    (seed, epoch, image) alone; that of validation and test images is the same in each epoch. A label is (digit, angle
    in degrees).

    Examples:
        >>> data = RotatedMNISTDataModule(batch_size=32)
        >>> data.image_shape, data.label_columns
        ((1, 28, 28), ('digit', 'angle'))
    """

    label_columns = ("digit", "angle")

    def batch_transform(self, split: Split) -> BatchTransform:
        seed = self._transform_seed(split)

        def rotated(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            angle = integers(seed, epoch, index, high=360)
            return rotate(images, angle, CENTRE_OF_MASS), torch.stack([labels, angle], dim=1)

        return rotated


def rotate(images: Tensor, angle: Tensor, centre: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Rotates each image by its own angle, with bilinear interpolation and zeros outside the image.

    Args:
        images: N x C x H x W.
        angle: N, in degrees, counter-clockwise.
        centre: Fixed point of the rotation, in pixels right of and below the centre of the image.
    """
    _, _, height, width = images.shape
    radians = torch.deg2rad(angle.to(images.dtype))
    cos, sin = radians.cos(), radians.sin()
    # Source position of each pixel, in coordinates from -1 to 1 along both axes, y down.
    right, down = 2 * centre[0] / width, 2 * centre[1] / height
    ratio = height / width
    x = torch.stack([cos, -sin * ratio, right - cos * right + sin * ratio * down], dim=1)
    y = torch.stack([sin / ratio, cos, down - sin / ratio * right - cos * down], dim=1)
    grid = F.affine_grid(torch.stack([x, y], dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False).clamp_(0, 1)
