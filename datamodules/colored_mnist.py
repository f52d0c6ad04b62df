import torch
from torch import Tensor

from datamodules.base import Split
from datamodules.counter_rng import integers
from datamodules.loader import Batch, BatchTransform
from datamodules.mnist import MNISTDataModule

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
"""Ten colours and their hues in degrees, 36 degrees apart, which the colour metrics use."""


class ColoredMNISTDataModule(MNISTDataModule):
    """MNIST with a random saturated colour for each digit, redrawn in each epoch; 3 x 28 x 28.

    An image is the grey image times the colour of hue h, saturation 1 and value 1, with h uniform on 0, 1, ..., 359
    degrees. The hue depends on (seed, epoch, image) alone; that of validation and test images is the same in each
    epoch. A label is (digit, hue in degrees).

    Examples:
        >>> data = ColoredMNISTDataModule(batch_size=32)
        >>> data.image_shape, data.label_columns
        ((3, 28, 28), ('digit', 'hue'))
    """

    image_shape = (3, 28, 28)
    label_columns = ("digit", "hue")

    def batch_transform(self, split: Split) -> BatchTransform:
        seed = self._transform_seed(split)

        def colored(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            hue = integers(seed, epoch, index, high=360)
            return images * hue_to_rgb(hue)[:, :, None, None], torch.stack([labels, hue], dim=1)

        return colored


def hue_to_rgb(hue: Tensor) -> Tensor:
    """Converts hues to saturated colours HSV(hue, 1, 1): degrees, N -> float32 in [0, 1], N x 3."""
    sector = (hue.float()[:, None] / 60 + torch.arange(5, 0, -2, device=hue.device)) % 6
    return 1 - torch.minimum(sector, 4 - sector).clamp(0, 1)
