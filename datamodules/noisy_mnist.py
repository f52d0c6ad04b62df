import math

from torch import Tensor

from datamodules.base import Split
from datamodules.counter_rng import normal
from datamodules.mnist import MNISTDataModule
from datamodules.pairs import ImageTransform, PairsDataModule


class NoisyMNISTDataModule(PairsDataModule, MNISTDataModule):
    """Pairs for denoising MNIST, 1 x 28 x 28: an image with Gaussian noise, and the image itself.

    For an image x the source is clip(x + s e, 0, 1), e ~ N(0, 1). The noise is drawn for each pixel and anew in each
    epoch. It depends on (seed, epoch, image) alone; that of validation and test images is the same in each epoch, and
    that of test images is the same for every seed.

    Args:
        root: Folder of the data file `<root>/mnist.npz`, which is made or downloaded if it does not exist.
        batch_size: Number of (source, target) pairs in a training batch, on each device.
        paired: Whether source and target of a training pair show the same image. Otherwise one half of the training
            images is used as sources only and the other half as targets only.
        val_size: Number of training images that are held out for validation.
        seed: Seed of the validation split, of the halves of unpaired data and of the order. The run's own seed by
            default.
        on_device: Whether the data are kept on the training device. By default they are if they take less than half of
            its free memory.
        predict_split: Split that `predict` runs over.
        eval_batch_size: Number of pairs in a batch of validation, test and predict. Four times `batch_size` by default.
        noise: Standard deviation s of the noise on pixels in [0, 1].

    Examples:
        >>> data = NoisyMNISTDataModule(batch_size=32, noise=0.25)
        >>> data.source_shape, data.image_shape
        ((1, 28, 28), (1, 28, 28))
    """

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 128,
        paired: bool = True,
        val_size: int = 5000,
        seed: int | None = None,
        on_device: bool | None = None,
        predict_split: Split = "test",
        eval_batch_size: int | None = None,
        noise: float = 0.5,
    ) -> None:
        super().__init__(root, batch_size, paired, val_size, seed, on_device, predict_split, eval_batch_size)
        if not (noise >= 0 and math.isfinite(noise)):
            raise ValueError(f"data.noise is {noise}; give a finite number of at least 0")
        self.noise = noise

    def domain_transforms(self, split: Split) -> tuple[ImageTransform, ImageTransform]:
        seed = self._transform_seed(split)

        def noisy(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Tensor:
            noise = normal(seed, epoch, index, images[0].numel()).view_as(images)
            return noise.mul_(self.noise).add_(images).clamp_(0, 1)

        def clean(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Tensor:
            return images

        return noisy, clean

    def baseline(self, source: Tensor) -> Tensor:
        """Returns the noisy images themselves."""
        return source
