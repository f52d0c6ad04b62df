import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.base import Split
from datamodules.loader import Batch, Render
from datamodules.mnist import MNISTDataModule
from datamodules.noise import whole_numbers


class RotatedMNISTDataModule(MNISTDataModule):
    """MNIST turned about the centre by a random angle of 0, 1, ..., 359 degrees, a new one in each epoch.

    Angles count counter-clockwise and follow from (seed, epoch, image) alone; those of validation and test images
    stay. A label is (digit, angle in degrees).
    """

    def render(self, split: Split) -> Render:
        seed = self._render_seed(split)

        def rotated(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            angle = whole_numbers(seed, epoch, index, below=360)
            return rotate(images, angle), torch.stack([labels, angle], dim=1)

        return rotated


def rotate(images: Tensor, angle: Tensor) -> Tensor:
    """Each image of N x C x H x W by its own angle, N, counter-clockwise in degrees; bilinear, zeros from outside."""
    _, _, height, width = images.shape
    radians = torch.deg2rad(angle.to(images.dtype))
    cos, sin, none = radians.cos(), radians.sin(), torch.zeros_like(radians)
    # Where each pixel comes from, in coordinates that go from -1 to 1 along both axes, with y down.
    rows = [torch.stack([cos, -sin * height / width, none], 1), torch.stack([sin * width / height, cos, none], 1)]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False).clamp_(0, 1)
