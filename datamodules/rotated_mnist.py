import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.base import Split
from datamodules.loader import Batch, Render
from datamodules.mnist import MNISTDataModule
from datamodules.noise import whole_numbers

CENTRE_OF_MASS = (0.5, 0.5)
"""Where MNIST's digits were centred: pixels right of and below the middle of the image."""


class RotatedMNISTDataModule(MNISTDataModule):
    """MNIST turned by a random angle of 0, 1, ..., 359 degrees, a new one in each epoch.

    Digits are turned about their own centre of mass, half a pixel from the image's middle; turned about the middle,
    that half pixel would give the angle away without a look at the digit. Angles count counter-clockwise and follow
    from (seed, epoch, image) alone; those of validation and test images stay. A label is (digit, angle in degrees).
    """

    label_columns = ("digit", "angle")

    def render(self, split: Split) -> Render:
        seed = self._render_seed(split)

        def rotated(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            angle = whole_numbers(seed, epoch, index, below=360)
            return rotate(images, angle, CENTRE_OF_MASS), torch.stack([labels, angle], dim=1)

        return rotated


def rotate(images: Tensor, angle: Tensor, centre: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Each image of N x C x H x W by its own angle, N, counter-clockwise in degrees; bilinear, zeros from outside.

    Args:
        centre: what stays in place, in pixels right of and below the middle of the image.
    """
    _, _, height, width = images.shape
    radians = torch.deg2rad(angle.to(images.dtype))
    cos, sin = radians.cos(), radians.sin()
    # Where each pixel comes from, in coordinates that go from -1 to 1 along both axes, with y down.
    right, down = 2 * centre[0] / width, 2 * centre[1] / height
    ratio = height / width
    x = torch.stack([cos, -sin * ratio, right - cos * right + sin * ratio * down], dim=1)
    y = torch.stack([sin / ratio, cos, down - sin / ratio * right - cos * down], dim=1)
    grid = F.affine_grid(torch.stack([x, y], dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False).clamp_(0, 1)
