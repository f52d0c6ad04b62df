import torch
from torch import Tensor

from datamodules.base import Split
from datamodules.loader import Batch, Render
from datamodules.mnist import MNISTDataModule
from datamodules.noise import whole_numbers

REFERENCE_HUES: dict[str, int] = {
    "red": 0,
    "orange": 36,
    "yellow": 72,
    "green": 108,
    "mint": 144,
    "cyan": 180,
    "azure": 216,
    "blue": 252,
    "violet": 288,
    "rose": 324,
}
"""Ten colours to measure by, in degrees of the colour circle, as far apart as ten can be."""


class ColoredMNISTDataModule(MNISTDataModule):
    """MNIST with a random saturated colour for each digit, a new one in each epoch: 3 x 28 x 28.

    The image is its grey version times the colour of hue h, saturation 1 and value 1, h uniform on 0, 1, ..., 359
    degrees. Colours follow from (seed, epoch, image) alone; those of validation and test images stay. A label is
    (digit, hue in degrees).
    """

    image_shape = (3, 28, 28)
    label_columns = ("digit", "hue")

    def render(self, split: Split) -> Render:
        seed = self._render_seed(split)

        def colored(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            hue = whole_numbers(seed, epoch, index, below=360)
            return images * hue_to_rgb(hue)[:, :, None, None], torch.stack([labels, hue], dim=1)

        return colored


def hue_to_rgb(hue: Tensor) -> Tensor:
    """The saturated colours, HSV(hue, 1, 1): degrees, N, -> float32 in [0, 1], N x 3."""
    place = (hue.float()[:, None] / 60 + torch.arange(5, 0, -2, device=hue.device)) % 6
    return 1 - torch.minimum(place, 4 - place).clamp(0, 1)
