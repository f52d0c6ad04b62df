from typing import ClassVar

import torch
from torch import Tensor

from datamodules.base import Split
from datamodules.counter_rng import uniform
from datamodules.files import DataError
from datamodules.loader import Batch, BatchTransform
from datamodules.mnist import MNISTDataModule


class StackedMNISTDataModule(MNISTDataModule):
    """Stacked MNIST: three digits as the channels of one image, 3 x 28 x 28, which gives 1,000 modes to count.

    The first channel is the stored image. The second and third are drawn from the images of the same split, with
    replacement, anew in each epoch. The draws depend on (seed, epoch, image) alone; those of validation and test images
    are the same in each epoch. The label is 100 a + 10 b + c for the digits a, b, c of the channels. If `on_device` is
    false and the model is on a GPU, each batch waits for its draws to be copied to the CPU. Sources: Metz et al. 2016,
    arXiv 1611.02163; Srivastava et al. 2017, arXiv 1705.07761; Lin et al. 2018 (PacGAN), arXiv 1712.04086.

    Examples:
        >>> data = StackedMNISTDataModule(batch_size=32)
        >>> data.image_shape, data.num_classes
        ((3, 28, 28), 1000)
    """

    image_shape = (3, 28, 28)
    classes: ClassVar[tuple[str, ...]] = tuple(f"{mode:03}" for mode in range(1000))
    classified_as = "mnist"

    def batch_transform(self, split: Split) -> BatchTransform:
        seed = self._transform_seed(split)
        stored, digits, own = self._split(split)  # uint8 M x 1 x 28 x 28; M; indices of this split, N

        def stacked(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            place = (uniform(seed, epoch, index, 2) * len(own)).long().clamp_(max=len(own) - 1)  # (B, 2)
            picked = own[place.to(own.device)]
            others = stored[picked][:, :, 0].to(images.device).float().div_(255)  # (B, 2, 28, 28)
            b, c = digits[picked].to(labels.device).unbind(1)
            return torch.cat([images, others], dim=1), 100 * labels + 10 * b + c

        return stacked

    def _few_shot(self, train: Tensor, labels: Tensor) -> Tensor:
        raise DataError(
            f"data.labels_per_class is {self.labels_per_class}, but the classes of {type(self).__name__} are random"
            " combinations of three digits, so that there is no few-shot subset; leave the option out"
        )
