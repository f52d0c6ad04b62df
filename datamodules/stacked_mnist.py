from typing import ClassVar

import torch
from torch import Tensor

from datamodules.base import Split
from datamodules.files import DataError
from datamodules.loader import Batch, Render
from datamodules.mnist import MNISTDataModule
from datamodules.noise import uniform


class StackedMNISTDataModule(MNISTDataModule):
    """Three digits of MNIST as the channels of one image, 3 x 28 x 28: 1,000 modes, to count those a model makes.

    As in Metz et al. 2016, arXiv 1611.02163; Srivastava et al. 2017, arXiv 1705.07761; Lin et al. 2018 (PacGAN), arXiv
    1712.04086. The first channel is the stored image; the second and third are drawn among the images of the same
    split, with replacement, anew in each epoch. Draws follow from (seed, epoch, image) alone; those of validation and
    test images stay. A label is 100 a + 10 b + c of the channels' digits a, b, c. (With `on_device` false beside a GPU
    each batch waits for its two draws to reach the images on the CPU.)
    """

    image_shape = (3, 28, 28)
    classes: ClassVar[tuple[str, ...]] = tuple(f"{mode:03}" for mode in range(1000))
    classified_as = "mnist"

    def render(self, split: Split) -> Render:
        seed = self._render_seed(split)
        stored, digits, own = self._split(split)  # uint8 M x 1 x 28 x 28; M; the numbers of this split's, N

        def stacked(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            place = (uniform(seed, epoch, index, 2) * len(own)).long().clamp_(max=len(own) - 1)  # (B, 2)
            picked = own[place.to(own.device)]
            others = stored[picked, 0].to(images.device).float().div_(255)  # (B, 2, 28, 28)
            b, c = digits[picked].to(labels.device).unbind(1)
            return torch.cat([images, others], dim=1), 100 * labels + 10 * b + c

        return stacked

    def _few(self, train: Tensor, labels: Tensor) -> Tensor:
        raise DataError(
            f"data.labels_per_class is {self.labels_per_class}, but {type(self).__name__} has no fixed images of each"
            " class to choose among: its classes arise from the draw of three digits; leave the option out"
        )
