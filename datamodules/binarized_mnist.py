from torch import Tensor

from datamodules.base import Split
from datamodules.counter_rng import uniform
from datamodules.loader import Batch, BatchTransform
from datamodules.mnist import MNISTDataModule


class BinarizedMNISTDataModule(MNISTDataModule):
    """Dynamically binarised MNIST, 1 x 28 x 28: a pixel is 1 with the probability of its grey value.

    Training images are redrawn in each epoch. Validation and test images are drawn once, and test images are the same
    for every seed. The scheme is that of Burda et al. 2015, arXiv 1509.00519. Log-likelihoods are not comparable with
    those of the fixed binarisation of Larochelle and Murray 2011.

    Examples:
        >>> BinarizedMNISTDataModule(batch_size=32).image_shape
        (1, 28, 28)
    """

    def batch_transform(self, split: Split) -> BatchTransform:
        seed = self._transform_seed(split)

        def binarized(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            draws = uniform(seed, epoch, index, images[0].numel()).view_as(images)
            return (draws < images).float(), labels

        return binarized
