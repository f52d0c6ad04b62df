from torch import Tensor

from datamodules.base import Split
from datamodules.loader import Batch, Render
from datamodules.mnist import MNISTDataModule
from datamodules.noise import uniform


class BinarizedMNISTDataModule(MNISTDataModule):
    """Dynamically binarised MNIST: each pixel is 1 with the probability of its grey value, drawn anew in each epoch.

    Validation and test images are drawn once; the test images' draw is the same for every seed. As in Burda et al.
    2015, arXiv 1509.00519; log-likelihoods are not those of the fixed binarisation of Larochelle and Murray 2011.
    """

    def render(self, split: Split) -> Render:
        seed = self._render_seed(split)

        def binarized(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Batch:
            draws = uniform(seed, epoch, index, images[0].numel()).view_as(images)
            return (draws < images).float(), labels

        return binarized
