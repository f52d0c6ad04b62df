import math

from torch import Tensor

from datamodules.base import Split
from datamodules.mnist import MNISTDataModule
from datamodules.noise import normal
from datamodules.pairs import Paint, PairsDataModule


class NoisyMNISTDataModule(PairsDataModule, MNISTDataModule):
    """MNIST to be cleaned of noise: sources are clip(x + s e, 0, 1), e ~ N(0, 1) for each pixel, targets x.

    Noise is new in each epoch and follows from (seed, epoch, image) alone; that of validation and test images stays,
    and that of test images is the same for every seed.

    Args:
        root, batch_size, paired, val_size, seed, on_device, predict_split, eval_batch_size: as in PairsDataModule.
        noise: s, the standard deviation of the noise on pixels in [0, 1].
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
            raise ValueError(f"data.noise is {noise}; it must be at least 0")
        self.noise = noise

    def versions(self, split: Split) -> tuple[Paint, Paint]:
        seed = self._render_seed(split)

        def noisy(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Tensor:
            noise = normal(seed, epoch, index, images[0].numel()).view_as(images)
            return noise.mul_(self.noise).add_(images).clamp_(0, 1)

        def clean(images: Tensor, labels: Tensor, index: Tensor, epoch: int) -> Tensor:
            return images

        return noisy, clean

    def untranslated(self, source: Tensor) -> Tensor:
        """The noisy image itself."""
        return source
